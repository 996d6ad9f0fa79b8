//! The parameters of the methods of contract section 4. They go by name; unknown and repeated names are
//! refused.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeParams<'i> {
    /// A router id or `*`.
    #[serde(borrow)]
    pub router: Cow<'i, str>,
    /// A topic or `*`.
    #[serde(borrow)]
    pub topic: Cow<'i, str>,
    /// What the client has had of the router before: events up to this `seq` of this epoch. Both or neither.
    pub since: Option<u64>,
    pub epoch: Option<Cow<'i, str>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsubscribeParams {
    pub subscription: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandParams<'i> {
    #[serde(borrow)]
    pub router: Cow<'i, str>,
    #[serde(borrow)]
    pub name: Cow<'i, str>,
    /// JSON as it stands; null is a body like any other.
    #[serde(borrow, default, deserialize_with = "even_null")]
    pub body: Option<&'i RawValue>,
    pub body_base64: Option<Cow<'i, str>>,
    /// Milliseconds. The range is checked by who uses it.
    pub timeout_ms: Option<u64>,
    pub oneway: Option<bool>,
}

/// What a backend publishes over HTTP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishParams<'i> {
    #[serde(borrow)]
    pub router: Cow<'i, str>,
    #[serde(borrow)]
    pub topic: Cow<'i, str>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    pub body: Option<&'i RawValue>,
    pub body_base64: Option<Cow<'i, str>>,
    pub retain: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutersParams<'i> {
    pub prefix: Option<Cow<'i, str>>,
    pub after: Option<Cow<'i, str>>,
    /// The range is checked by who uses it.
    pub limit: Option<u64>,
}

/// Without this null would be taken for absence.
pub fn even_null<'i, D: Deserializer<'i>>(deserializer: D) -> Result<Option<&'i RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The parameters of a call; none are an empty object. The error is fit for `data.detail` and names the
/// member.
pub fn params<'i, T: Deserialize<'i>>(raw: Option<&'i RawValue>) -> Result<T, String> {
    by_name(raw.map_or("{}", RawValue::get))
}

/// An object out of its JSON. Where serde says only what is wrong with a value, the error here says of which
/// member.
pub fn by_name<'i, T: Deserialize<'i>>(json: &'i str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read =
        deserializer.deserialize_map(ByName(PhantomData)).and_then(|read| deserializer.end().map(|()| read));
    read.map_err(|error| {
        let mut text = error.to_string();
        if error.is_data() {
            // The place within the parameters tells the client nothing that the member's name does not.
            text.truncate(text.rfind(" at line ").unwrap_or(text.len()));
        }
        text
    })
}

struct ByName<T>(PhantomData<T>);

impl<'i, T: Deserialize<'i>> Visitor<'i> for ByName<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with named members")
    }

    fn visit_map<A: MapAccess<'i>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Named { map, member: String::new() }))
    }
}

/// Members that remember their name until their value has been read.
struct Named<A> {
    map: A,
    member: String,
}

impl<'i, A: MapAccess<'i>> MapAccess<'i> for Named<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'i>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(member) = self.map.next_key()? else { return Ok(None) };
        self.member = member;
        seed.deserialize(self.member.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'i>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map
            .next_value_seed(seed)
            .map_err(|error| A::Error::custom(format_args!("{}: {error}", self.member)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'i, T: Deserialize<'i>>(json: &'i str) -> Result<T, String> {
        params(Some(serde_json::from_str(json).unwrap()))
    }

    #[track_caller]
    fn refused<'i, T: Deserialize<'i> + fmt::Debug>(json: &'i str) -> String {
        read::<T>(json).expect_err("a refusal")
    }

    #[test]
    fn a_command_with_all_and_with_what_it_needs() {
        let all = r#"{"router":"r","name":"n","body": {"a": 1} ,"timeout_ms":5,"oneway":true,"body_base64":"eA=="}"#;
        let command: CommandParams<'_> = read(all).unwrap();
        assert!(matches!((&command.router, &command.name), (Cow::Borrowed("r"), Cow::Borrowed("n"))));
        assert_eq!(command.body.map(RawValue::get), Some(r#"{"a": 1}"#));
        assert_eq!(command.body_base64.as_deref(), Some("eA=="));
        assert_eq!((command.timeout_ms, command.oneway), (Some(5), Some(true)));
        let command: CommandParams<'_> = read(r#"{"name":"n","router":"\u0072"}"#).unwrap();
        assert_eq!(command.router, "r");
        assert!(command.body.is_none() && command.body_base64.is_none() && command.timeout_ms.is_none());
    }

    #[test]
    fn null_is_a_body_but_elsewhere_it_is_absence() {
        let json =
            r#"{"router":"r","name":"n","body":null,"timeout_ms":null,"body_base64":null,"oneway":null}"#;
        let command: CommandParams<'_> = read(json).unwrap();
        assert_eq!(command.body.map(RawValue::get), Some("null"));
        assert!(command.body_base64.is_none() && command.timeout_ms.is_none() && command.oneway.is_none());
    }

    #[test]
    fn the_other_methods() {
        let subscribe: SubscribeParams<'_> = read(r#"{"router":"*","topic":"t"}"#).unwrap();
        assert_eq!((&*subscribe.router, &*subscribe.topic, subscribe.since), ("*", "t", None));
        let since = r#"{"router":"r","topic":"*","since":18446744073709551615,"epoch":"ab"}"#;
        let subscribe: SubscribeParams<'_> = read(since).unwrap();
        assert_eq!((subscribe.since, subscribe.epoch.as_deref()), (Some(u64::MAX), Some("ab")));
        assert_eq!(read(r#"{"subscription":3}"#), Ok(UnsubscribeParams { subscription: 3 }));
        let none = RoutersParams { prefix: None, after: None, limit: None };
        assert_eq!(params(None), Ok(none));
        assert_eq!(read::<RoutersParams<'_>>(r#"{"limit":7,"after":"a"}"#).unwrap().limit, Some(7));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused::<SubscribeParams<'_>>(r#"{"router":"r"}"#), "missing field `topic`");
        assert_eq!(
            refused::<SubscribeParams<'_>>(r#"{"router":1,"topic":"t"}"#),
            "router: invalid type: integer `1`, expected a string"
        );
        assert_eq!(
            refused::<SubscribeParams<'_>>(r#"{"router":"r","topic":"t","x":1}"#),
            "unknown field `x`, expected one of `router`, `topic`, `since`, `epoch`"
        );
        assert_eq!(
            refused::<SubscribeParams<'_>>(r#"{"router":"r","topic":"t","since":-1}"#),
            "since: invalid value: integer `-1`, expected u64"
        );
        assert_eq!(
            refused::<SubscribeParams<'_>>(r#"{"router":"r","router":"r","topic":"t"}"#),
            "duplicate field `router`"
        );
        assert_eq!(
            refused::<UnsubscribeParams>(r#"{"subscription":-1}"#),
            "subscription: invalid value: integer `-1`, expected u64"
        );
        let command = |member: &str| format!(r#"{{"router":"r","name":"n",{member}}}"#);
        for member in ["timeout_ms", "oneway", "body_base64"] {
            let json = command(&format!("\"{member}\":[]"));
            let detail = refused::<CommandParams<'_>>(&json);
            assert!(detail.starts_with(&format!("{member}: invalid type: sequence")), "{detail}");
            assert!(!detail.contains(" at line "), "{detail}");
        }
        let detail = refused::<CommandParams<'_>>(r#"{"router":"\ud800"}"#);
        assert!(detail.starts_with("router: "), "{detail}");
    }

    #[test]
    fn parameters_by_position_are_refused() {
        assert_eq!(
            refused::<SubscribeParams<'_>>(r#"["r","t"]"#),
            "invalid type: sequence, expected an object with named members"
        );
        assert_eq!(params::<SubscribeParams<'_>>(None), Err("missing field `router`".to_owned()));
    }
}
