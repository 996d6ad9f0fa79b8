//! Faults with their places, and that `config.toml` and `docs/configuration.md` tell the truth about the table.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::limits::LogFormat;

const SHIPPED: &str = include_str!("../../../config.toml");
const DOCUMENTED: &str = include_str!("../../../docs/configuration.md");

fn good(text: &str) -> Settings {
    parse("c.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn wrong(text: &str) -> String {
    parse("c.toml", text.as_bytes()).expect_err(text).to_string()
}

#[track_caller]
fn assert_wrong(text: &str, begins: &str, contains: &str) {
    let error = wrong(text);
    assert!(error.starts_with(begins) && error.contains(contains), "{text}\n{error}");
}

#[test]
fn no_file_and_an_empty_one_are_the_defaults() {
    assert_eq!(load(None), Ok(Settings::default()));
    assert_eq!(good(""), Settings::default());
    assert_eq!(good("[router]\n[websocket]\n[websocket.app.keepalive]\n"), Settings::default());
}

#[test]
fn the_shipped_file_gives_every_key_its_default() {
    assert_eq!(good(SHIPPED), Settings::default());
    let mut reader = Reader::default();
    reader.table("", DeTable::parse(SHIPPED).unwrap().get_ref());
    let left_out: Vec<&str> =
        keys::all().map(|key| key.name).filter(|name| !reader.given.contains_key(name)).collect();
    assert_eq!(left_out, [""; 0]);
}

#[test]
fn the_documentation_has_a_row_with_default_and_range_for_every_key() {
    for key in keys::all() {
        let default = key.written(&Settings::default());
        let row = |name: &str| format!("| `{name}` | `{default}` | {} | ", key.allowed());
        let mut names = vec![key.name.to_owned()];
        for listener in ["router", "http", "websocket.app", "websocket.page"] {
            if let Some(rest) = key.name.strip_prefix(listener) {
                let stars = [Some("*"), listener.starts_with("websocket").then_some("websocket.*")];
                names.extend(stars.into_iter().flatten().map(|star| format!("{star}{rest}")));
            }
        }
        let found = names.iter().filter(|name| DOCUMENTED.contains(&row(name))).count();
        assert_eq!(found, 1, "docs/configuration.md needs this row once:\n{}", row(key.name));
    }
}

#[test]
fn values_are_taken() {
    let settings = good(concat!(
        "drain_s = 0.25\nclose_grace_s = 5\n",
        "router.bind = ['127.0.0.2:0', \"[::1]:0\", 'localhost:7000']\n",
        "http = { bind = '127.0.0.1:1', max_body_bytes = 0x1_000, max_per_ip = 3, notsent_lowat_bytes = 0 }\n",
        "[websocket.page]\norigins = ['https://App.example.com']\nheartbeat.interval_s = 2.0\n",
        "[shadow]\nkeep_s = 0\n[census]\nlog_every_s = 0.0\n",
        "[log]\nlevel = 'debug'\nformat = 'json'\n",
    ));
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(settings.drain, Duration::from_millis(250));
    assert_eq!(settings.close_grace, Duration::from_secs(5));
    let bind = [address("127.0.0.2:0"), address("[::1]:0"), address("127.0.0.1:7000")];
    assert_eq!(settings.router.listen.bind, bind);
    assert_eq!(settings.http.listen.bind, [address("127.0.0.1:1")]);
    assert_eq!(settings.http.max_body_bytes, 4096);
    assert_eq!(settings.http.listen.max_per_ip, Some(3));
    assert_eq!(settings.http.listen.notsent_lowat_bytes, None);
    assert_eq!(settings.page.origins, ["https://app.example.com"]);
    assert_eq!(settings.page.heartbeat.interval, Duration::from_secs(2));
    assert_eq!(settings.app, Settings::default().app);
    assert_eq!((settings.shadow.keep, settings.census_log_every), (Duration::ZERO, None));
    assert_eq!((settings.log.level, settings.log.format), (log::LevelFilter::Debug, LogFormat::Json));
}

#[test]
fn unknown_keys_are_named_with_their_place() {
    assert_eq!(
        wrong("\n[router]\nmax_pendign = 5\n"),
        "c.toml:3:1: router.max_pendign: unknown key; did you mean router.max_pending?"
    );
    assert_wrong("[rooter]\nx = 1\ny = 2", "c.toml:1:2: rooter: ", "did you mean router?");
    assert_wrong("[websocket.app]\norigins = []", "c.toml:2:1: websocket.app.origins: ", "page.origins?");
    assert_wrong("'router.bind' = 1", "c.toml:1:1: \"router.bind\": ", "did you mean");
    assert_wrong("a = 1\n'\u{e4}' = 1; ", "c.toml:2:7: ", "");
    assert_wrong("\"\\u001b[31m\" = 1", "c.toml:1:1: \"\\u{1b}[31m\": unknown key; docs/", "");
}

#[test]
fn what_a_later_version_has_is_refused() {
    let later = [
        ("auth.secret_file = 'x'", "auth"),
        ("[auth]", "auth"),
        ("[auth]\npublic_key_file = 'x'", "auth"),
        ("http.token_file = 'x'", "http.token_file"),
        ("router.tls.bind = '127.0.0.1:7443'", "router.tls"),
        ("websocket.page.tls = {}", "websocket.page.tls"),
    ];
    for (text, name) in later {
        let error = wrong(text);
        assert!(error.starts_with("c.toml:1:"), "{error}");
        assert!(error.ends_with(&format!(": {name}: not supported yet in this version")), "{error}");
    }
}

#[test]
fn bad_values_say_what_would_be_right() {
    let seconds = "; allowed: 0.001 to 2592000 s";
    let cases = [
        ("drain_s = 0", "c.toml:1:11: drain_s: 0 is not 'off' here", seconds),
        ("drain_s = -1", "c.toml:1:11: drain_s: -1 is out of range", seconds),
        ("drain_s = 2592001", "c.toml:1:11: drain_s: 2592001 is out of range", seconds),
        ("drain_s = 0.0001", "c.toml:1:11: drain_s: 0.0001 is out of range", seconds),
        ("drain_s = nan", "c.toml:1:11: drain_s: is no number", seconds),
        ("drain_s = inf", "c.toml:1:11: drain_s: is no number", seconds),
        ("drain_s = 99999999999999999999", "c.toml:1:11: drain_s: ", ""),
        ("drain_s = '5'", "c.toml:1:11: drain_s: a number is needed, without quotes", seconds),
        ("drain_s = true", "c.toml:1:11: drain_s: a number is needed, this is a boolean", seconds),
        ("drain_s = {}", "c.toml:1:11: drain_s: a number is needed, this is a table", seconds),
        ("[drain_s]", "c.toml:1:", "drain_s: a number is needed, this is a table"),
        ("shadow.keep_s = -1", "c.toml:1:17: ", "; allowed: 0 (off) or 0.001 to 2592000 s"),
        ("router.max_pending = 1.0", "c.toml:1:22: ", "must be a whole number"),
        ("router.max_pending = 0", "c.toml:1:22: router.max_pending: 0 is not 'off' here", ""),
        ("router.max_per_ip = 1.5", "c.toml:1:21: ", "; allowed: 0 (off) or 1 to 1000000, whole"),
        ("router.keepalive.idle_s = 1.5", "c.toml:1:27: ", "; allowed: 1 to 32767 s, whole"),
        ("router.keepalive.idle_s = 32768", "c.toml:1:27: ", "; allowed: 1 to 32767 s, whole"),
        ("router.keepalive.count = 128", "c.toml:1:26: ", "; allowed: 1 to 127, whole"),
        ("log.level = 'loud'", "c.toml:1:13: log.level: \"loud\" is no level", "\"debug\" or \"trace\""),
        ("log.format = 1", "c.toml:1:14: log.format: a string in quotes is needed, this is an integer", ""),
        ("router = 5", "c.toml:1:1: router: is a section", "[router]"),
        ("[[router]]", "c.toml:1:", "router: is a section"),
        ("router.bind = []", "c.toml:1:15: router.bind: an empty list", ""),
        ("router.bind = 7000", "c.toml:1:15: router.bind: a list is needed", "\"ADDRESS:PORT\""),
        ("router.bind = [7000]", "c.toml:1:16: router.bind: a string in quotes", "\"ADDRESS:PORT\""),
        ("http.bind = ['[::1]:1',\n '[::1]:1']", "c.toml:2:2: http.bind: is there twice", ""),
        (
            "http.bind = ['[::1]:1', '0.0.0.0:7080']",
            "c.toml:1:25: http.bind: 0.0.0.0:7080 is off",
            "not supported",
        ),
        ("websocket.page.origins = 'https://a'", "c.toml:1:26: websocket.page.origins: a list is", ""),
        ("websocket.page.origins = ['*']", "c.toml:1:27: websocket.page.origins: \"*\" is no origin", ""),
    ];
    for (text, begins, contains) in cases {
        assert_wrong(text, begins, contains);
    }
}

#[test]
fn all_faults_are_told_in_the_order_of_the_file() {
    let error = wrong("drain_s = 0\nclose_grace_s = 0\n[auth]\n[aaa]\n");
    let places: Vec<&str> = error.lines().map(|line| &line[..10]).collect();
    assert_eq!(places, ["c.toml:1:1", "c.toml:2:1", "c.toml:3:2", "c.toml:4:2"]);
}

#[test]
fn what_is_no_toml_has_its_place_too() {
    assert_wrong("drain_s = 1\ndrain_s = 2", "c.toml:2:1: ", "duplicate key");
    assert_wrong("[router]\n[router]", "c.toml:2:", "");
    assert_wrong("drain_s = \n", "c.toml:1:", "");
    assert_wrong("\u{feff}drain_s = 1", "c.toml:1:1: begins with a byte order mark", "");
    let error = parse("c.toml", b"# \xc3\xa4\n# \xff\n").unwrap_err().to_string();
    assert_eq!(error, "c.toml:2:3: is not UTF-8 from here on");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load(Some(Path::new("/nonexistent/c.toml"))).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/c.toml: No such file"), "{error}");
    assert!(load(Some(Path::new("/"))).unwrap_err().to_string().starts_with("/: Is a directory"));
    let error = load(Some(Path::new("/dev/zero"))).unwrap_err().to_string();
    assert_eq!(error, "/dev/zero: longer than 1048576 bytes");
}

#[test]
fn the_user_timeout_follows_the_keepalive_and_is_never_below_it() {
    let keepalive = |rest: &str| format!("[router.keepalive]\nidle_s = 5\ninterval_s = 2\ncount = 3\n{rest}");
    assert_eq!(good(&keepalive("")).router.listen.user_timeout_s, 11);
    assert_eq!(good(&keepalive("user_timeout_s = 11")).router.listen.user_timeout_s, 11);
    assert_eq!(good(&keepalive("user_timeout_s = 12")).router.listen.user_timeout_s, 12);
    assert_eq!(good("router.keepalive.idle_s = 32767").router.listen.user_timeout_s, 32_827);
    assert_wrong(
        &keepalive("user_timeout_s = 10"),
        "c.toml:5:18: router.keepalive.user_timeout_s: 10 is below",
        "at least 11",
    );
    assert_wrong("http.keepalive.user_timeout_s = 74", "c.toml:1:33: http.keepalive.user_timeout_s: ", "75");
    assert_wrong(
        "http.keepalive.interval_s = 32767\nhttp.keepalive.count = 127",
        "c.toml:2:24: http.keepalive: idle_s + interval_s × count is 4161424 s",
        "at most 2147483",
    );
}

#[test]
fn two_listeners_do_not_share_a_port() {
    assert_wrong(
        "http.bind = '127.0.0.1:7000'",
        "c.toml:1:13: http.bind: 127.0.0.1:7000 is already",
        "by router.bind",
    );
    assert_wrong("router.bind = '127.0.0.1:7080'", "c.toml:1:15: router.bind: ", "by http.bind");
    assert_wrong("http.bind = '[::ffff:127.0.0.1]:7000'", "c.toml:1:13: http.bind: ", "by router.bind");
    good("http.bind = '127.0.0.2:7000'\nwebsocket.app.bind = '[::1]:7000'");
    good("http.bind = '127.0.0.1:0'\nrouter.bind = '127.0.0.1:0'");
}
