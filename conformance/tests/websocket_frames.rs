//! RFC 6455 sections 5 to 8 and contract section 4: messages, fragments, control frames, and the close code of every
//! violation.

use std::time::Duration;

use conformance::calls::{Census, barrier, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::http::{self, is_timeout};
use conformance::websocket::{
    BINARY, CLOSE, CONTINUATION, Message, PING, PONG, TEXT, WebSocket, encode_frame,
};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);
const FIN: u8 = 0x80;

fn call(id: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "routers"}).to_string()
}

/// Runs `break_it` on a fresh connection and asserts the close code, that nothing else was said, and the FIN.
#[track_caller]
fn closes_with(daemon: &Daemon, code: u16, what: &str, break_it: impl FnOnce(&mut WebSocket)) {
    let mut socket = WebSocket::connect(daemon.app);
    break_it(&mut socket);
    match socket.try_receive() {
        Ok(Message::Close(Some(got), _)) => assert_eq!(got, code, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
    socket.client().expect_close();
}

#[track_caller]
fn alive(socket: &mut WebSocket) {
    socket.call("routers", json!({})).expect("routers");
}

#[test]
fn a_message_in_fragments_cut_anywhere_is_one_message() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    // The id has characters of two, three and four bytes, and the cuts go through all of them.
    let text = call("aé€😀z");
    let bytes = text.as_bytes();
    for cut in 0..=bytes.len() {
        socket.send_fragments(TEXT, &[&bytes[..cut], &bytes[cut..]]);
        assert_eq!(socket.receive_json()["id"], "aé€😀z", "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    socket.send_fragments(TEXT, &single);
    assert_eq!(socket.receive_json()["id"], "aé€😀z");
    let empty_between: Vec<&[u8]> = single.iter().flat_map(|byte| [*byte, b""]).collect();
    socket.send_fragments(TEXT, &empty_between);
    assert_eq!(socket.receive_json()["id"], "aé€😀z");
}

#[test]
fn frames_cut_anywhere_on_the_wire_are_the_same_frames() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let long = json!({"jsonrpc": "2.0", "id": "x".repeat(200), "method": "routers"}).to_string();
    for message in [call("short"), long] {
        let frame = encode_frame(FIN | TEXT, [0xa5, 0x5a, 0xff, 0x01], message.as_bytes());
        for cut in 1..frame.len() {
            socket.client().send(&frame[..cut]);
            barrier(daemon.http);
            socket.client().send(&frame[cut..]);
            assert!(socket.receive_json()["result"].is_object(), "cut at {cut}");
        }
    }
    // Many in one segment are answered in their order.
    let together: Vec<u8> = (0..50)
        .flat_map(|n| encode_frame(FIN | TEXT, [n, 1, 2, 3], call(&n.to_string()).as_bytes()))
        .collect();
    socket.client().send(together);
    for n in 0..50 {
        assert_eq!(socket.receive_json()["id"], n.to_string());
    }
}

#[test]
fn a_mask_of_zeros_is_a_mask() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.client().send(encode_frame(FIN | TEXT, [0; 4], call("plain").as_bytes()));
    assert_eq!(socket.receive_json()["id"], "plain");
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let text = call("between");
    let (first, second) = text.as_bytes().split_at(20);
    socket.send_frame(TEXT, first);
    socket.send_frame(FIN | PING, b"now");
    assert_eq!(socket.receive(), Message::Pong(b"now".to_vec()));
    socket.send_frame(FIN | PONG, b"unasked");
    socket.send_frame(CONTINUATION, b"");
    socket.send_frame(FIN | PING, b"");
    assert_eq!(socket.receive(), Message::Pong(Vec::new()));
    socket.send_frame(FIN | CONTINUATION, second);
    assert_eq!(socket.receive_json()["id"], "between");
}

#[test]
fn every_ping_gets_its_own_pong() {
    let daemon = Daemon::start("");
    for address in [daemon.app, daemon.page] {
        let mut socket = WebSocket::connect(address);
        for length in [0, 1, 64, 124, 125] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8 | 0x80).collect();
            socket.send_frame(FIN | PING, &payload);
            assert_eq!(socket.receive(), Message::Pong(payload));
        }
        socket.send_frame(FIN | PONG, b"nobody asked");
        alive(&mut socket);
    }
}

#[test]
fn a_violation_of_the_framing_is_1002() {
    let daemon = Daemon::start("");
    for reserved in [0x40, 0x20, 0x10] {
        closes_with(&daemon, 1002, "a reserved bit", |s| s.send_frame(FIN | reserved | TEXT, b"{}"));
        closes_with(&daemon, 1002, "a reserved bit in a PING", |s| s.send_frame(FIN | reserved | PING, b""));
    }
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        closes_with(&daemon, 1002, &format!("opcode {opcode:#x}"), |s| s.send_frame(FIN | opcode, b""));
    }
    for opcode in [PING, PONG, CLOSE] {
        closes_with(&daemon, 1002, "a control frame cut", |s| s.send_frame(opcode, b""));
        closes_with(&daemon, 1002, "a control frame of 126 bytes", |s| {
            s.send_frame(FIN | opcode, &[b'x'; 126])
        });
    }
    closes_with(&daemon, 1002, "a continuation of nothing", |s| s.send_frame(FIN | CONTINUATION, b"x"));
    closes_with(&daemon, 1002, "an unfinished continuation of nothing", |s| s.send_frame(CONTINUATION, b"x"));
    closes_with(&daemon, 1002, "a message inside a message", |s| {
        s.send_frame(TEXT, b"[");
        s.send_frame(FIN | TEXT, b"]");
    });
    closes_with(&daemon, 1002, "without a mask", |s| s.client().send([FIN | TEXT, 2, b'{', b'}']));
    closes_with(&daemon, 1002, "a PING without a mask", |s| s.client().send([FIN | PING, 0]));
    closes_with(&daemon, 1002, "125 in the 16-bit form", |s| {
        s.client().send([&[FIN | TEXT, 0xfe, 0, 125, 0, 0, 0, 0][..], &[b' '; 125]].concat());
    });
    closes_with(&daemon, 1002, "65535 in the 64-bit form", |s| {
        s.client().send([FIN | TEXT, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    });
    // RFC 6455 section 5.2: the most significant bit must be 0. It is also far too long.
    let mut socket = WebSocket::connect(daemon.app);
    socket.client().send([FIN | TEXT, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(socket.receive(), Message::Close(Some(1002 | 1009), _)));
}

#[test]
fn a_frame_that_is_wrong_by_its_header_is_refused_by_its_header() {
    let daemon = Daemon::start("");
    closes_with(&daemon, 1002, "a header that announces 1000 bytes", |s| {
        s.client().send([FIN | 0x40 | TEXT, 0xfe, 3, 232, 1, 2, 3, 4]);
    });
    closes_with(&daemon, 1009, "a length of 2^40", |s| {
        s.client().send([FIN | TEXT, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_binary_message_is_1003() {
    let daemon = Daemon::start("");
    closes_with(&daemon, 1003, "binary", |s| s.send_frame(FIN | BINARY, b"\x00\x01"));
    closes_with(&daemon, 1003, "an empty one", |s| s.send_frame(FIN | BINARY, b""));
    closes_with(&daemon, 1003, "its first fragment", |s| s.send_frame(BINARY, b"x"));
}

#[test]
fn text_that_is_not_utf_8_is_1007() {
    let daemon = Daemon::start("");
    let bad: &[&[u8]] = &[
        b"\x80",
        b"a\xff",
        b"\xc0\xaf",
        b"\xc1\x81",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\xe2\x28\xa1",
        b"\xf0\x9f\x98",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    ];
    for text in bad {
        closes_with(&daemon, 1007, &format!("{text:?}"), |s| s.send_frame(FIN | TEXT, text));
        let parts: Vec<&[u8]> = text.chunks(1).collect();
        closes_with(&daemon, 1007, &format!("{text:?} in fragments"), |s| s.send_fragments(TEXT, &parts));
    }
}

#[test]
fn a_bad_byte_fails_fast_in_the_middle_of_an_unfinished_message() {
    let daemon = Daemon::start("");
    closes_with(&daemon, 1007, "in a fragment without FIN", |s| s.send_frame(TEXT, b"\"abc\xff"));
    closes_with(&daemon, 1007, "in the second fragment", |s| {
        s.send_frame(TEXT, b"\"abc\xe2\x82");
        s.send_frame(CONTINUATION, b"\xacok\xc0");
    });
    closes_with(&daemon, 1007, "a sequence that the next fragment breaks", |s| {
        s.send_frame(TEXT, b"\"\xf4");
        s.send_frame(CONTINUATION, b"\x90");
    });
    // A frame that has announced 1000 bytes and brought 11 of them.
    closes_with(&daemon, 1007, "in the middle of a frame", |s| {
        let frame = encode_frame(FIN | TEXT, [9, 8, 7, 6], &[&b"0123456789\xff"[..], &[b'x'; 989]].concat());
        s.client().send(&frame[..8 + 11]);
    });
    // A sequence that is only unfinished is none yet.
    let mut socket = WebSocket::connect(daemon.app);
    let text = call("€");
    let at = text.find('€').expect("the sign") + 2;
    socket.send_frame(TEXT, &text.as_bytes()[..at]);
    socket.send_frame(FIN | PING, b"still here");
    assert_eq!(socket.receive(), Message::Pong(b"still here".to_vec()));
    socket.send_frame(FIN | CONTINUATION, &text.as_bytes()[at..]);
    assert_eq!(socket.receive_json()["id"], "€");
}

#[test]
fn a_message_over_max_message_bytes_is_1009() {
    let daemon = Daemon::start("websocket.app.max_message_bytes = 1000");
    let padded = |length: usize| {
        let text = call("fits");
        text.clone() + &" ".repeat(length - text.len())
    };
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_text(&padded(1000));
    assert_eq!(socket.receive_json()["id"], "fits");
    let whole = padded(1000);
    let (first, second) = whole.as_bytes().split_at(600);
    socket.send_fragments(TEXT, &[first, second]);
    assert_eq!(socket.receive_json()["id"], "fits");

    closes_with(&daemon, 1009, "one byte over", |s| s.send_text(&padded(1001)));
    closes_with(&daemon, 1009, "by its header alone", |s| {
        let frame = encode_frame(FIN | TEXT, [1; 4], &[b' '; 1001]);
        s.client().send(&frame[..8]);
    });
    closes_with(&daemon, 1009, "the sum of its fragments", |s| {
        s.send_frame(TEXT, &[b' '; 600]);
        s.send_frame(CONTINUATION, &[b' '; 401]);
    });
    closes_with(&daemon, 1009, "the sum of endless fragments", |s| {
        s.send_frame(TEXT, b" ");
        for _ in 0..1001 {
            s.send_frame(CONTINUATION, b" ");
        }
    });
    // Pages have their own limit.
    let mut page = WebSocket::connect(daemon.page);
    page.send_text(&padded(60_000));
    assert_eq!(page.receive_json()["id"], "fits");
    page.send_text(&padded(65_536));
    assert_eq!(page.receive_json()["id"], "fits");
    page.send_text(&padded(65_537));
    page.expect_close(1009);
    drop(page);
    wait_for_reason(&daemon, "app", "too_large", 4, BOUND);
    wait_for_reason(&daemon, "page", "too_large", 1, BOUND);
}

#[test]
fn a_close_frame_is_answered_with_its_code() {
    let daemon = Daemon::start("");
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let mut socket = WebSocket::connect(daemon.app);
        socket.send_close(code, "going");
        match socket.receive() {
            Message::Close(got, _) => assert_eq!(got, Some(code)),
            other => panic!("{other:?}"),
        }
        socket.client().expect_close();
    }
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_frame(FIN | CLOSE, b"");
    assert!(matches!(socket.receive(), Message::Close(None | Some(1000), _)));
    socket.client().expect_close();
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_close(1000, &"é".repeat(61));
    assert!(matches!(socket.receive(), Message::Close(Some(1000), _)));
    wait_for_reason(&daemon, "app", "peer_closed", 15, BOUND);
}

#[test]
fn a_bad_close_frame_is_1002_or_1007() {
    let daemon = Daemon::start("");
    closes_with(&daemon, 1002, "one byte", |s| s.send_frame(FIN | CLOSE, b"\x03"));
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        closes_with(&daemon, 1002, &format!("code {code}"), |s| s.send_close(code, ""));
    }
    closes_with(&daemon, 1007, "a reason that is not UTF-8", |s| s.send_frame(FIN | CLOSE, b"\x03\xe8\xff"));
    closes_with(&daemon, 1007, "a reason cut in a character", |s| {
        s.send_frame(FIN | CLOSE, b"\x03\xe8\xe2\x82")
    });
}

#[test]
fn nothing_is_answered_behind_a_close_frame() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let close = encode_frame(FIN | CLOSE, [1, 2, 3, 4], &1000_u16.to_be_bytes());
    let ping = encode_frame(FIN | PING, [1, 2, 3, 4], b"too late");
    let text = encode_frame(FIN | TEXT, [1, 2, 3, 4], call("too late").as_bytes());
    socket.client().send([close, ping, text].concat());
    assert!(matches!(socket.receive(), Message::Close(Some(1000), _)));
    socket.client().expect_close();

    // Nor behind the daemon's own; what was whole before a violation still gets its answer.
    let mut socket = WebSocket::connect(daemon.app);
    let good = encode_frame(FIN | TEXT, [1, 2, 3, 4], call("good").as_bytes());
    let bad = encode_frame(FIN | 0x40 | TEXT, [1, 2, 3, 4], b"");
    socket.client().send([good.clone(), bad, good].concat());
    assert_eq!(socket.receive_json()["id"], "good");
    assert!(matches!(socket.receive(), Message::Close(Some(1002), _)));
    socket.client().expect_close();
}

#[test]
fn a_client_that_answers_the_close_frame_ends_the_last_words_at_once() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_frame(FIN | BINARY, b"x");
    assert!(matches!(socket.receive(), Message::Close(Some(1003), _)));
    socket.client().expect_close();
    // In its last words it is counted as live still, but is not a client any more.
    assert_eq!(http::get(daemon.http, "/v1/clients").json()["clients"], json!([]));
    assert_eq!(Census::of(&daemon).live("app"), 1);
    socket.send_close(1003, "");
    drop(socket);
    wait_for_live(&daemon, "app", 0, BOUND);
    assert_eq!(Census::of(&daemon).reason("app", "protocol_error"), 1);
}

#[test]
fn a_client_that_never_closes_is_closed_after_the_grace() {
    let daemon = Daemon::start("close_grace_s = 0.3");
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_frame(FIN | BINARY, b"x");
    assert!(matches!(socket.receive(), Message::Close(Some(1003), _)));
    wait_for_live(&daemon, "app", 0, BOUND);
}

#[test]
fn fin_and_reset_without_a_close_frame_are_told_apart() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    alive(&mut socket);
    drop(socket);
    wait_for_reason(&daemon, "app", "peer_closed", 1, BOUND);
    let mut socket = WebSocket::connect(daemon.app);
    alive(&mut socket);
    let tcp = socket2::SockRef::from(socket.client().stream());
    tcp.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(socket);
    wait_for_reason(&daemon, "app", "peer_reset", 1, BOUND);
}

#[test]
fn a_violation_touches_nobody_else() {
    let daemon = Daemon::start("");
    let mut bystander = WebSocket::connect(daemon.app);
    for n in 0..20 {
        closes_with(&daemon, 1002, "reserved", |s| s.send_frame(FIN | 0x70 | TEXT, &[n; 50]));
        alive(&mut bystander);
    }
    wait_for_reason(&daemon, "app", "protocol_error", 20, BOUND);
    bystander.set_patience(Duration::from_millis(50));
    assert!(bystander.try_receive().is_err_and(|error| is_timeout(&error)));
}
