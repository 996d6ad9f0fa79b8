//! Query parameters: unknown, repeated or out of range is 400 naming the parameter, never clamped (SPEC section 3).

use super::Refusal;
use crate::proto::http::{BadEscape, percent_decode, query_pairs};
use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The parameters of one call, in the order of `names`.
pub struct Query<'b, const N: usize> {
    names: [&'static str; N],
    values: [Option<Cow<'b, str>>; N],
}

impl<'b, const N: usize> Query<'b, N> {
    pub fn parse(query: Option<&'b str>, names: [&'static str; N]) -> Result<Self, Refusal> {
        Self::collect(query_pairs(query.unwrap_or("")), names)
    }

    fn collect(
        pairs: impl Iterator<Item = Result<(Cow<'b, str>, Cow<'b, str>), BadEscape<'b>>>,
        names: [&'static str; N],
    ) -> Result<Self, Refusal> {
        let mut values = [const { None }; N];
        for pair in pairs {
            let (name, value) =
                pair.map_err(|bad| Refusal::bad_request(format!("{}: a bad percent escape", bad.name)))?;
            let Some(index) = names.iter().position(|known| *known == name) else {
                let known = if N == 0 { "none".to_owned() } else { names.join(", ") };
                return Err(Refusal::bad_request(format!("{name}: unknown parameter; known: {known}")));
            };
            if values[index].replace(value).is_some() {
                return Err(Refusal::bad_request(format!("{name}: given more than once")));
            }
        }
        Ok(Self { names, values })
    }

    /// The parameters of `names` alone, and the query as sent without them: the rest is somebody else's, and is not looked at.
    pub fn split(query: Option<&'b str>, names: [&'static str; N]) -> Result<(Self, Cow<'b, str>), Refusal> {
        let query = query.unwrap_or("");
        let is_ours = |piece: &&str| {
            let name = piece.split_once('=').map_or(*piece, |(name, _)| name);
            percent_decode(name).is_some_and(|name| names.contains(&&*name))
        };
        let ours = Self::collect(query.split('&').filter(is_ours).flat_map(query_pairs), names)?;
        if ours.values.iter().all(Option::is_none) {
            return Ok((ours, query.into()));
        }
        let theirs: Vec<&str> = query.split('&').filter(|piece| !is_ours(piece)).collect();
        Ok((ours, theirs.join("&").into()))
    }

    pub fn text(&mut self, index: usize) -> Option<Cow<'b, str>> {
        self.values[index].take()
    }

    /// A whole number in decimal digits within `range`.
    pub fn number<T>(&mut self, index: usize, range: RangeInclusive<T>, default: T) -> Result<T, Refusal>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(value) = self.values[index].take() else { return Ok(default) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ => Err(Refusal::bad_request(format!(
                "{}: a whole number from {} to {}",
                self.names[index],
                range.start(),
                range.end()
            ))),
        }
    }

    /// A switch: absent, or `1`.
    pub fn switch(&mut self, index: usize) -> Result<bool, Refusal> {
        match self.values[index].take().as_deref() {
            None => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Refusal::bad_request(format!("{}: 1, or leave it out", self.names[index]))),
        }
    }
}
