//! What a client remembers of routers from one connection to the next, and asks to go on from.

use crate::model::Context;
use crate::settings::remembers_all;
use crate::watcher::PRESENCE;
use serde_json::Value;
use std::collections::BTreeMap;

/// Epoch and `seq` of routers, as answers said them last.
#[derive(Default)]
pub struct Recall(BTreeMap<String, (String, u64)>);

impl Recall {
    /// What it says that it has had of a router: mostly the truth.
    pub fn since(&self, router: &str, context: &mut Context<'_>) -> Option<(String, u64)> {
        let (epoch, seq) = self.0.get(router).filter(|_| context.random.chance(70))?;
        Some(match context.random.below(10) {
            0 => ("0123456789abcdef".into(), *seq),
            1 => (epoch.clone(), seq + 1000),
            2..6 => (epoch.clone(), 0),
            _ => (epoch.clone(), *seq),
        })
    }

    /// The answer to a subscription. Where `since` was asked for: whether it recovered, as it must where that is known.
    pub fn learn(
        &mut self,
        router: &str,
        topic: &str,
        since: Option<&(String, u64)>,
        result: &Value,
        context: &mut Context<'_>,
    ) -> Option<bool> {
        let (epoch, seq) = (result["epoch"].as_str(), result["seq"].as_u64().unwrap_or(0));
        let recovered = result["recovered"].as_bool();
        if recovered.is_some() != since.is_some() {
            context.model.fail(format!("the answer to a subscription since {since:?} is {result}"));
        }
        if let Some((asked, last)) = since {
            let has_been = epoch == Some(asked) && *last <= seq;
            let must = has_been && (remembers_all(context.settings) || *last == seq || topic == PRESENCE);
            if recovered == Some(true) && !has_been || recovered == Some(false) && must {
                context.model.fail(format!("since {last} of {asked} is answered {result}"));
            }
            context.model.count(if recovered == Some(true) { "recovered" } else { "not recovered" });
        }
        if let Some(epoch) = epoch {
            self.0.insert(router.into(), (epoch.into(), seq));
        }
        recovered
    }
}
