//! What an HTTP connection makes of all that a caller sends: one request behind the other, bodies, refusals.

use super::answers::check_refusal;
use super::pieces::{cuttings, feed};
use berth::api::Refusal;
use berth::api::routes::Call;
use berth::clock::Time;
use berth::limits::{HttpSettings, Settings};
use berth::session::http::{Exchange, FromCaller, HttpSession};

type Outcome = (Result<(Call<'static>, Vec<u8>), Refusal>, Exchange);

pub fn check(data: &[u8]) {
    // Low enough for an input of any size to go over them.
    let settings = HttpSettings { max_header_bytes: 1024, max_body_bytes: 1000, ..Settings::default().http };
    let whole = outcomes(&[data], &settings);
    for (outcome, _) in &whole {
        match outcome {
            Ok((_, body)) => assert!(body.len() <= settings.max_body_bytes),
            Err(refusal) => check_refusal(refusal),
        }
    }
    for pieces in cuttings(data) {
        let cut = outcomes(&pieces, &settings);
        for ((whole, of_whole), (cut, of_cut)) in whole.iter().zip(&cut) {
            assert_eq!(whole, cut, "the cut changed the meaning");
            // Whether a body came along although 100 was awaited is what the cut decides, so a refusal may end the
            // connection or not; then whoever goes on hears more.
            assert!(of_whole.close == of_cut.close || of_cut.close && cut.is_err());
            assert_eq!(of_whole.head_only, of_cut.head_only);
        }
        assert!(
            whole.len() == cut.len()
                || cut.len() < whole.len() && cut.last().is_some_and(|(_, last)| last.close)
        );
    }
}

/// Up to the first that ends the connection.
fn outcomes(pieces: &[&[u8]], settings: &HttpSettings) -> Vec<Outcome> {
    let (mut session, mut all) = (HttpSession::new(Time::ZERO), Vec::new());
    let (mut received, mut continued_at) = (0, None);
    feed(pieces, |waiting| {
        received += waiting.len();
        let mut input = &*waiting;
        loop {
            let next = session.next(&mut input, Time::ZERO, settings);
            assert!(session.held_bytes() <= (2 * received).min(settings.max_body_bytes));
            let (outcome, exchange) = match next {
                None => return Some(waiting.len() - input.len()),
                Some(FromCaller::Continue) => {
                    assert_ne!(continued_at.replace(all.len()), Some(all.len()), "100 comes once a request");
                    continue;
                }
                Some(FromCaller::Request { call, body, exchange }) => {
                    (Ok((call.into_owned(), body.into_owned())), exchange)
                }
                Some(FromCaller::Refused { refusal, exchange }) => (Err(refusal), exchange),
            };
            assert_eq!(session.answering(), Some(exchange));
            let mut behind = input;
            assert!(
                session.next(&mut behind, Time::ZERO, settings).is_none() && behind == input,
                "one at a time"
            );
            all.push((outcome, exchange));
            if exchange.close {
                return None;
            }
            session.answered(Time::ZERO);
        }
    });
    all
}
