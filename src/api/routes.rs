//! From a request's head to the call that it makes.

use super::events::{self, WatchCall};
use super::query::Query;
use super::refusal::Headers;
use super::{Refusal, open_mode};
use crate::core::streams::{Opening, Window};
use crate::id;
use crate::limits::{
    DEFAULT_PAGE, DEFAULT_STREAM_BYTES, DEFAULT_STREAM_MESSAGES, DEFAULT_TIMEOUT_MS, MAX_FRAGMENT_BYTES,
    PAGE, STREAM_BYTES, STREAM_FROM, STREAM_MESSAGES, TIMEOUT_MS,
};
use crate::proto::http::{Head, Method, percent_decode};
use std::borrow::Cow;
use std::time::Duration;

/// What a request asks for. Text is borrowed from the head until the body is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call<'b> {
    Command {
        router: Cow<'b, str>,
        name: Cow<'b, str>,
        timeout: Duration,
        one_way: bool,
        json: bool,
    },
    Stream(StreamCall<'b>),
    Watch(WatchCall<'b>),
    /// What is published is in the body.
    Publish,
    /// The same command to many routers, which the body names.
    FleetCommand {
        name: Cow<'b, str>,
    },
    ListRouters(Page<'b>),
    ShowRouter(Cow<'b, str>),
    KickRouter(Cow<'b, str>),
    ForgetShadow(Cow<'b, str>),
    ListClients(Page<'b>),
    KickClient(Cow<'b, str>),
    Census {
        audit: bool,
    },
    Metrics,
    Healthz,
    Readyz,
    /// OPTIONS: what the path takes.
    Options(Headers),
}

/// A stream as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCall<'b> {
    pub router: Cow<'b, str>,
    pub name: Cow<'b, str>,
    pub window: Window,
    pub from: u64,
    /// The query string as sent, without the parameters that are ours: they belong to the router.
    pub query: Cow<'b, str>,
}

/// A page of a list in id order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'b> {
    pub prefix: Cow<'b, str>,
    pub after: Option<Cow<'b, str>>,
    pub limit: usize,
}

impl Call<'_> {
    pub fn into_owned(self) -> Call<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        fn own_page(page: Page<'_>) -> Page<'static> {
            Page { prefix: own(page.prefix), after: page.after.map(own), limit: page.limit }
        }
        match self {
            Call::Command { router, name, timeout, one_way, json } => {
                Call::Command { router: own(router), name: own(name), timeout, one_way, json }
            }
            Call::Stream(StreamCall { router, name, window, from, query }) => {
                let (router, name, query) = (own(router), own(name), own(query));
                Call::Stream(StreamCall { router, name, window, from, query })
            }
            Call::Watch(watch) => Call::Watch(watch.into_owned()),
            Call::Publish => Call::Publish,
            Call::FleetCommand { name } => Call::FleetCommand { name: own(name) },
            Call::ListRouters(page) => Call::ListRouters(own_page(page)),
            Call::ShowRouter(router) => Call::ShowRouter(own(router)),
            Call::KickRouter(router) => Call::KickRouter(own(router)),
            Call::ForgetShadow(router) => Call::ForgetShadow(own(router)),
            Call::ListClients(page) => Call::ListClients(own_page(page)),
            Call::KickClient(client) => Call::KickClient(own(client)),
            Call::Census { audit } => Call::Census { audit },
            Call::Metrics => Call::Metrics,
            Call::Healthz => Call::Healthz,
            Call::Readyz => Call::Readyz,
            Call::Options(allow) => Call::Options(allow),
        }
    }
}

/// The resources that there are.
enum Resource<'b> {
    Command { router: &'b str, name: &'b str },
    Stream { router: &'b str, name: &'b str },
    Events,
    FleetCommand(&'b str),
    Routers,
    Router(&'b str),
    Shadow(&'b str),
    Clients,
    Client(&'b str),
    Census,
    Metrics,
    Healthz,
    Readyz,
}

impl Resource<'_> {
    fn allow(&self) -> Headers {
        match self {
            Resource::Command { .. } | Resource::FleetCommand(_) => &[("Allow", "POST, OPTIONS")],
            Resource::Events => &[("Allow", "GET, HEAD, POST, OPTIONS")],
            Resource::Router(_) => &[("Allow", "GET, HEAD, DELETE, OPTIONS")],
            Resource::Shadow(_) | Resource::Client(_) => &[("Allow", "DELETE, OPTIONS")],
            _ => &[("Allow", "GET, HEAD, OPTIONS")],
        }
    }
}

/// What the head asks for; open mode's rules for Host and Origin go first.
pub fn route<'b>(head: &Head<'b>) -> Result<Call<'b>, Refusal> {
    open_mode::check_host(head)?;
    open_mode::check_same_origin(head)?;
    if head.path == "*" {
        return Ok(Call::Options(&[("Allow", "GET, HEAD, POST, DELETE, OPTIONS")]));
    }
    let resource = find(head.path).ok_or_else(|| Refusal::not_found("there is nothing at this path"))?;
    let allow = resource.allow();
    let method = if head.method == Method::Head { Method::Get } else { head.method };
    match (resource, method) {
        (_, Method::Options) => Ok(Call::Options(allow)),
        (Resource::Command { router, name }, Method::Post) => {
            command(head, router, name).map_err(|refusal| refusal.sent(false))
        }
        (Resource::Stream { router, name }, Method::Get) => stream(head, router, name),
        (Resource::Events, Method::Get) => events::watch(head).map(Call::Watch),
        (Resource::Events, Method::Post) => {
            Query::<0>::parse(head.query, [])?;
            Ok(Call::Publish)
        }
        (Resource::FleetCommand(name), Method::Post) => {
            let name = identifier(name, "name").and_then(|name| without_parameters(head, name));
            name.map(|name| Call::FleetCommand { name }).map_err(|refusal| refusal.sent(false))
        }
        (Resource::Routers, Method::Get) => Ok(Call::ListRouters(page(head.query)?)),
        (Resource::Router(router), Method::Get) => {
            Ok(Call::ShowRouter(without_parameters(head, identifier(router, "router")?)?))
        }
        (Resource::Router(router), Method::Delete) => {
            Ok(Call::KickRouter(without_parameters(head, identifier(router, "router")?)?))
        }
        (Resource::Shadow(router), Method::Delete) => {
            Ok(Call::ForgetShadow(without_parameters(head, identifier(router, "router")?)?))
        }
        (Resource::Clients, Method::Get) => Ok(Call::ListClients(page(head.query)?)),
        (Resource::Client(client), Method::Delete) => {
            Ok(Call::KickClient(without_parameters(head, identifier(client, "client")?)?))
        }
        (Resource::Census, Method::Get) => {
            Ok(Call::Census { audit: Query::parse(head.query, ["audit"])?.switch(0)? })
        }
        (Resource::Metrics, Method::Get) => Ok(Call::Metrics),
        (Resource::Healthz, Method::Get) => Ok(Call::Healthz),
        (Resource::Readyz, Method::Get) => Ok(Call::Readyz),
        _ => Err(Refusal::method_not_allowed(allow)),
    }
}

fn find(path: &str) -> Option<Resource<'_>> {
    match path {
        "/metrics" => return Some(Resource::Metrics),
        "/healthz" => return Some(Resource::Healthz),
        "/readyz" => return Some(Resource::Readyz),
        _ => {}
    }
    let mut segments = path.strip_prefix("/v1/")?.split('/');
    let segments = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
    Some(match segments {
        [Some("routers"), Some(router), Some("commands"), Some(name), None] => {
            Resource::Command { router, name }
        }
        [Some("routers"), Some(router), Some("streams"), Some(name), None] => {
            Resource::Stream { router, name }
        }
        [Some("events"), None, ..] => Resource::Events,
        [Some("commands"), Some(name), None, ..] => Resource::FleetCommand(name),
        [Some("routers"), None, ..] => Resource::Routers,
        [Some("routers"), Some(router), None, ..] => Resource::Router(router),
        [Some("routers"), Some(router), Some("shadow"), None, _] => Resource::Shadow(router),
        [Some("clients"), None, ..] => Resource::Clients,
        [Some("clients"), Some(client), None, ..] => Resource::Client(client),
        [Some("census"), None, ..] => Resource::Census,
        _ => return None,
    })
}

fn command<'b>(head: &Head<'b>, router: &'b str, name: &'b str) -> Result<Call<'b>, Refusal> {
    let router = identifier(router, "router")?;
    let name = identifier(name, "name")?;
    let mut query = Query::parse(head.query, ["timeout_ms", "oneway"])?;
    let timeout = Duration::from_millis(query.number(0, TIMEOUT_MS, DEFAULT_TIMEOUT_MS)?);
    Ok(Call::Command { router, name, timeout, one_way: query.switch(1)?, json: head.json })
}

fn stream<'b>(head: &Head<'b>, router: &'b str, name: &'b str) -> Result<Call<'b>, Refusal> {
    let router = identifier(router, "router")?;
    let name = identifier(name, "name")?;
    let (mut ours, query) = Query::split(head.query, ["max_messages", "max_bytes", "from"])?;
    let window = Window {
        max_messages: ours.number(0, STREAM_MESSAGES, DEFAULT_STREAM_MESSAGES)?,
        max_bytes: ours.number(1, STREAM_BYTES, DEFAULT_STREAM_BYTES)?,
    };
    let from = ours.number(2, STREAM_FROM, 0)?;
    let most = MAX_FRAGMENT_BYTES - Opening::FIXED_BYTES;
    if query.len() > most {
        return Err(Refusal::bad_request(format!("the query for the router: at most {most} bytes")));
    }
    Ok(Call::Stream(StreamCall { router, name, window, from, query }))
}

fn page(query: Option<&str>) -> Result<Page<'_>, Refusal> {
    let mut query = Query::parse(query, ["prefix", "after", "limit"])?;
    let limit = query.number(2, PAGE, DEFAULT_PAGE)?;
    Ok(Page { prefix: query.text(0).unwrap_or_default(), after: query.text(1), limit })
}

/// An id or name in a path: percent-decoded once, then of the charset.
fn identifier<'b>(raw: &'b str, what: &'static str) -> Result<Cow<'b, str>, Refusal> {
    percent_decode(raw)
        .filter(|text| id::is_id(text))
        .ok_or_else(|| Refusal::bad_request(format!("{what}: 1 to 64 of A-Za-z0-9._:-")))
}

fn without_parameters<'b>(head: &Head<'b>, id: Cow<'b, str>) -> Result<Cow<'b, str>, Refusal> {
    Query::<0>::parse(head.query, [])?;
    Ok(id)
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
