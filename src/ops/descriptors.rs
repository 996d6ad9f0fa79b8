//! The descriptor limit: raised to the hard one at the start (SPEC section 7).

use crate::limits::{Settings, kept_descriptors};

/// Raises the soft limit to the hard one, and returns it.
pub fn raise_limit() -> usize {
    let raised = rlimit::increase_nofile_limit(u64::MAX).or_else(|_| rlimit::Resource::NOFILE.get_soft());
    raised.map_or(1024, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Lowers the caps that do not fit under `limit`, with a warning for each.
pub fn fit(settings: &mut Settings, limit: usize) {
    let most = (limit - kept_descriptors(limit)).max(1);
    let caps = [
        ("router.max_connections", &mut settings.router.listen.max_connections),
        ("http.max_connections", &mut settings.http.listen.max_connections),
        ("websocket.app.max_connections", &mut settings.app.listen.max_connections),
        ("websocket.page.max_connections", &mut settings.page.listen.max_connections),
    ];
    for (key, cap) in caps {
        if *cap > most {
            log::warn!(key = key, configured = *cap, lowered_to = most, descriptors = limit;
                "lowered: the descriptor limit does not allow more");
            *cap = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_fit_is_lowered() {
        let mut settings = Settings::default();
        fit(&mut settings, 20_000);
        assert_eq!(settings.router.listen.max_connections, 19_936);
        assert_eq!(settings.http.listen.max_connections, 4096);
        fit(&mut settings, 64);
        assert_eq!(settings.http.listen.max_connections, 56);
    }
}
