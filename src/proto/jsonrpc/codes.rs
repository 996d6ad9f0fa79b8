//! The error codes of JSON-RPC 2.0 and of contract section 4.

pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;

pub const ROUTER_OFFLINE: i32 = -32001;
pub const DEADLINE_EXCEEDED: i32 = -32002;
pub const ROUTER_ERROR: i32 = -32003;
pub const ROUTER_BUSY: i32 = -32004;
pub const FORBIDDEN: i32 = -32005;
pub const ROUTER_LOST: i32 = -32006;
pub const LIMIT_EXCEEDED: i32 = -32007;
pub const DRAINING: i32 = -32008;

/// What goes into `data.code`, and the `message` for people.
fn words(code: i32) -> (&'static str, &'static str) {
    match code {
        PARSE_ERROR => ("parse_error", "Parse error"),
        INVALID_REQUEST => ("invalid_request", "Invalid Request"),
        METHOD_NOT_FOUND => ("method_not_found", "Method not found"),
        INVALID_PARAMS => ("invalid_params", "Invalid params"),
        ROUTER_OFFLINE => ("router_offline", "The router is not connected"),
        DEADLINE_EXCEEDED => ("deadline_exceeded", "The router did not answer in time"),
        ROUTER_ERROR => ("router_error", "The router answered with an error"),
        ROUTER_BUSY => ("router_busy", "The router has too much to do"),
        FORBIDDEN => ("forbidden", "Not allowed"),
        ROUTER_LOST => ("router_lost", "The router's session ended before it answered"),
        LIMIT_EXCEEDED => ("limit_exceeded", "Too many at once"),
        DRAINING => ("draining", "The server is shutting down"),
        _ => ("internal_error", "Internal error"),
    }
}

/// The stable name of a code, as in `data.code`; `internal_error` for one that is none of ours.
pub fn code_name(code: i32) -> &'static str {
    words(code).0
}

/// The `message` of an error with that code.
pub fn message(code: i32) -> &'static str {
    words(code).1
}
