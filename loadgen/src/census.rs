//! The daemon's census, asked for over HTTP, and what must be true in any census (contract, section 6).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::stats::Fault;

/// The four kinds of connection, as `classes` and `unbound_by_reason` name them.
pub const CONNECTIONS: [&str; 4] = ["router", "http", "app", "page"];

/// A blocking connection to the HTTP API, for the moments before and after the load.
pub struct Api {
    stream: TcpStream,
    address: SocketAddr,
}

impl Api {
    /// # Errors
    /// Nobody listens.
    pub fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        let stream = stream.and_then(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(stream)
        });
        stream.map(|stream| Self { stream, address }).map_err(|e| format!("HTTP API at {address}: {e}"))
    }

    /// # Errors
    /// No answer within 10 s, or one that is not 200 with JSON.
    pub fn get(&mut self, path: &str) -> Result<Value, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes()).map_err(|e| format!("GET {path}: {e}"))?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some((response, _)) = http::decode(&bytes)? {
                if response.status != 200 {
                    return Err(format!("GET {path}: {}", response.status));
                }
                return serde_json::from_slice(response.body).map_err(|e| format!("GET {path}: {e}"));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(format!("GET {path}: closed without an answer")),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(format!("GET {path}: {error}")),
            }
        }
    }

    /// # Errors
    /// As [`Self::get`].
    pub fn census(&mut self) -> Result<Value, String> {
        self.get("/v1/census?audit=1")
    }
}

/// `classes.CLASS.live`.
pub fn live(census: &Value, class: &str) -> Option<u64> {
    census["classes"][class]["live"].as_u64()
}

/// What is wrong in this census by itself; nothing in one that could not be had (`Null`).
pub fn faults(census: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if census.is_null() {
        return faults;
    }
    for (name, class) in census["classes"].as_object().into_iter().flatten() {
        let count = |key: &str| class[key].as_i64();
        let (Some(live), Some(opened), Some(unbound)) = (count("live"), count("opened"), count("unbound"))
        else {
            continue;
        };
        if opened - unbound != live {
            let detail = format!("{name}: opened {opened}, unbound {unbound}, live {live}");
            faults.push(Fault::new("census_balance", detail));
        }
    }
    for name in CONNECTIONS {
        let Some(unbound) = census["classes"][name]["unbound"].as_u64() else {
            faults.push(Fault::new("census_class", format!("no counts of class {name}")));
            continue;
        };
        let reasons = census["unbound_by_reason"][name].as_object();
        let sum: u64 = reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        if sum != unbound {
            faults.push(Fault::new(
                "census_reasons",
                format!("{name}: reasons sum to {sum}, unbound {unbound}"),
            ));
        }
    }
    if census["audit"]["ok"] != true {
        faults.push(Fault::new("census_audit", census["audit"].to_string()));
    }
    faults
}

/// Every class of the contract, in its order.
pub const CLASSES: [&str; 13] = [
    "router",
    "http",
    "app",
    "page",
    "listener",
    "pending_command",
    "subscription",
    "stream",
    "timer",
    "shadow",
    "queued_frame",
    "log",
    "other",
];

/// What is wrong in the census's account of memory: a key that is missing, or sums that do not come out.
pub fn memory_faults(census: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut figure = |pointer: String| {
        let value = census.pointer(&pointer).and_then(Value::as_u64);
        if value.is_none() {
            faults.push(Fault::new("census_missing", format!("the census has no number at {pointer}")));
        }
        value.unwrap_or(0)
    };
    let [live, from_kernel, fragmentation] =
        ["live_bytes", "allocated_from_kernel_bytes", "fragmentation_bytes"]
            .map(|key| figure(format!("/memory/{key}")));
    let sum: u64 = CLASSES.iter().map(|class| figure(format!("/classes/{class}/heap_bytes"))).sum();
    if !faults.is_empty() {
        return faults;
    }
    if sum != live {
        faults.push(Fault::new("census_heap", format!("the classes sum to {sum}, live_bytes is {live}")));
    }
    if from_kernel.saturating_sub(live) != fragmentation {
        let detail = format!("{from_kernel} from the kernel less {live} live is not {fragmentation}");
        faults.push(Fault::new("census_fragmentation", detail));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn census() -> Value {
        let class = json!({"live": 1, "opened": 3, "unbound": 2});
        let reasons = json!({"peer_closed": 2});
        json!({
            "classes": {"router": class, "http": class, "app": class, "page": class, "log": {"heap_bytes": 1}},
            "unbound_by_reason": {"router": reasons, "http": reasons, "app": reasons, "page": reasons},
            "audit": {"ok": true, "dangling": []},
        })
    }

    #[test]
    fn a_census_that_adds_up_has_no_fault() {
        assert_eq!(faults(&census()), []);
        assert_eq!(live(&census(), "router"), Some(1));
    }

    #[test]
    fn the_classes_must_sum_to_the_live_bytes() {
        let classes: serde_json::Map<String, Value> =
            CLASSES.iter().map(|class| (class.to_string(), json!({"heap_bytes": 10}))).collect();
        let memory =
            json!({"live_bytes": 130, "allocated_from_kernel_bytes": 150, "fragmentation_bytes": 20});
        let census = json!({"memory": memory, "classes": classes});
        assert_eq!(memory_faults(&census), []);
        let kind_of = |pointer: &str, value: Value| {
            let mut census = census.clone();
            *census.pointer_mut(pointer).unwrap() = value;
            memory_faults(&census).first().map(|fault| fault.kind)
        };
        assert_eq!(kind_of("/classes/other/heap_bytes", json!(11)), Some("census_heap"));
        assert_eq!(kind_of("/memory/fragmentation_bytes", json!(19)), Some("census_fragmentation"));
        assert_eq!(kind_of("/classes/log", json!({})), Some("census_missing"));
    }

    #[test]
    fn each_imbalance_is_named() {
        let fault_of = |pointer: &str, value: Value| {
            let mut census = census();
            *census.pointer_mut(pointer).unwrap() = value;
            faults(&census).iter().map(|fault| fault.kind).collect::<Vec<_>>()
        };
        assert_eq!(fault_of("/classes/app/live", json!(2)), ["census_balance"]);
        assert_eq!(fault_of("/classes/page", json!({})), ["census_class"]);
        assert_eq!(fault_of("/unbound_by_reason/http", json!({})), ["census_reasons"]);
        assert_eq!(fault_of("/audit/ok", json!(false)), ["census_audit"]);
    }
}
