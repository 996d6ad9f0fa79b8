//! What every scenario is held against: nothing stays, and every look at the daemon adds up.

use std::time::Duration;

use crate::census::{self, CLASSES};
use crate::observer::Look;

use super::stage::Stage;

pub const LIVE: &str = "live bytes after all have gone";
pub const RESIDENT: &str = "resident (anonymous) after all have gone";
pub const DESCRIPTORS: &str = "descriptors after all have gone";
pub const SOCKETS: &str = "the kernel's sockets after all have gone";
pub const OBJECTS: &str = "objects after all have gone";
pub const LOOKS: &str = "looks at the daemon that do not add up";
pub const CLIENTS: &str = "errors at the clients";

/// SPEC section 6, 'Nothing stays'.
pub const LIVE_BOUND: u64 = 1024;
pub const RESIDENT_BOUND: u64 = 2 << 20;
pub const RESIDENT_WITHIN: Duration = Duration::from_secs(10);

/// What counts as live: with `shadow.keep_s = 0` the shadow too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shadow {
    Counts,
    Stays,
}

impl Shadow {
    pub fn live(self, look: &Look) -> u64 {
        match self {
            Self::Counts => look.sample.live_bytes,
            Self::Stays => look.sample.live_without_shadow,
        }
    }
}

impl Stage {
    /// The state that everything must come back to: what is there once nobody is.
    ///
    /// # Errors
    /// The daemon has ended or gives no census.
    pub fn baseline(&mut self) -> Result<Look, String> {
        let quiet = |look: &Look| {
            look.sample.kernel_sockets <= 1
                && ["router", "app", "page", "pending_command", "queued_frame"]
                    .iter()
                    .all(|class| census::live(&look.census, class) == Some(0))
        };
        self.look_until(RESIDENT_WITHIN, quiet)?;
        // The allocator gives pages back over seconds.
        self.run_for(self.rest)?;
        self.look()
    }

    /// Waits at most ten seconds until everything is as it was `before`, and notes what is and what is not.
    ///
    /// # Errors
    /// The daemon has ended or gives no census.
    pub fn nothing_stays(&mut self, before: &Look, shadow: Shadow) -> Result<Look, String> {
        let back = |look: &Look| {
            stayed_live(before, look, shadow) <= LIVE_BOUND
                && stayed_resident(before, look) <= RESIDENT_BOUND
                && look.sample.descriptors == before.sample.descriptors
                && look.sample.kernel_sockets == before.sample.kernel_sockets
                && stayed_objects(before, look).is_empty()
        };
        let after = self.look_until(RESIDENT_WITHIN, back)?;
        let live = stayed_live(before, &after, shadow);
        let (was, is) = (shadow.live(before), shadow.live(&after));
        let counted = if shadow == Shadow::Stays { "without the shadow's, " } else { "" };
        let figure = format!("{counted}{was} B before, {is} B after: {} B", is as i64 - was as i64);
        self.finding(LIVE, figure, format!("+{LIVE_BOUND} B"), live <= LIVE_BOUND);
        let (was, is) = (before.sample.anon_bytes, after.sample.anon_bytes);
        let figure = format!("{} before, {} after", mebibytes(was), mebibytes(is));
        let bound = format!("+{} within 10 s", mebibytes(RESIDENT_BOUND));
        self.finding(RESIDENT, figure, bound, stayed_resident(before, &after) <= RESIDENT_BOUND);
        let (was, is) = (before.sample.descriptors, after.sample.descriptors);
        self.finding(DESCRIPTORS, format!("{is}"), format!("{was}, as before"), was == is);
        let (was, is) = (before.sample.kernel_sockets, after.sample.kernel_sockets);
        self.finding(SOCKETS, format!("{is}"), format!("{was}, as before"), was == is);
        let stayed = stayed_objects(before, &after);
        let figure = if stayed.is_empty() { "as before".to_string() } else { stayed.join(", ") };
        self.finding(OBJECTS, figure, "as before in each class", stayed.is_empty());
        Ok(after)
    }

    /// What was seen by the observer and by the clients all the time.
    pub fn judge_all_looks(&mut self) {
        let looks = self.looks;
        let bad: Vec<String> =
            self.look_faults.values().map(|(count, first)| format!("{count} × {first}")).collect();
        let figure = if bad.is_empty() { format!("0 of {looks}") } else { bad.join("; ") };
        self.finding(LOOKS, figure, "0: balances, sums, audit, one thread", bad.is_empty());
        let errors = self.world.errors.0.iter();
        let errors: Vec<String> =
            errors.map(|(kind, error)| format!("{} × {kind} ({})", error.count, error.first)).collect();
        let figure = if errors.is_empty() { "0".to_string() } else { errors.join("; ") };
        self.finding(CLIENTS, figure, "0", errors.is_empty());
        let cried = self.samples.iter().filter(|sample| sample.verdict == "leaking").count();
        self.finding("samples in which the daemon calls itself leaking", cried.to_string(), "0", cried == 0);
    }
}

pub fn stayed_live(before: &Look, after: &Look, shadow: Shadow) -> u64 {
    shadow.live(after).saturating_sub(shadow.live(before))
}

pub fn stayed_resident(before: &Look, after: &Look) -> u64 {
    after.sample.anon_bytes.saturating_sub(before.sample.anon_bytes)
}

/// Classes with more objects than before; shadows may stay, and timers may be those of the shadows.
fn stayed_objects(before: &Look, after: &Look) -> Vec<String> {
    let live = |look: &Look, class| census::live(&look.census, class).unwrap_or(0);
    CLASSES
        .iter()
        .filter(|class| **class != "shadow" && live(after, class) > live(before, class))
        .map(|class| format!("{class}: {} before, {} after", live(before, class), live(after, class)))
        .collect()
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Sample;
    use serde_json::json;

    fn look(live: u64, shadow: u64, pending: u64) -> Look {
        let sample = Sample {
            live_bytes: live,
            live_without_shadow: live - shadow,
            anon_bytes: live,
            ..Sample::default()
        };
        let census = json!({"classes": {"pending_command": {"live": pending}, "shadow": {"live": shadow}}});
        Look { sample, census, ..Look::default() }
    }

    #[test]
    fn what_the_shadow_holds_counts_only_where_it_must_go() {
        let (before, after) = (look(1000, 0, 0), look(9000, 8000, 0));
        assert_eq!(stayed_live(&before, &after, Shadow::Stays), 0);
        assert_eq!(stayed_live(&before, &after, Shadow::Counts), 8000);
        assert_eq!(stayed_live(&after, &before, Shadow::Counts), 0);
    }

    #[test]
    fn objects_that_stay_are_named() {
        assert_eq!(stayed_objects(&look(9, 0, 1), &look(9, 5, 1)), Vec::<String>::new());
        assert_eq!(stayed_objects(&look(9, 0, 1), &look(9, 0, 3)), ["pending_command: 1 before, 3 after"]);
    }
}
