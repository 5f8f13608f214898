//! What a rule would do: its next occurrences, and how many there are in a day. Asks no broker.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::Timing;

use super::app_state::AppState;
use super::page_error::PageError;

/// Occurrences that are listed.
pub(crate) const LISTED: usize = 10;

/// Occurrences of a day that are counted.
pub(crate) const COUNTED: usize = 2_000;

/// How long a preview waits for others.
const TURN: Duration = Duration::from_secs(2);

/// The occurrences of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    /// The next ones.
    pub next: Vec<Occurrence>,
    /// How many there are in the 24 hours from now, [`COUNTED`] at most.
    pub in_a_day: usize,
    /// Whether there are more.
    pub more: bool,
}

/// One occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// When.
    pub at: Timestamp,
    /// The offsets before and after, if the clocks of the zone change between the one before (or now) and this one.
    pub clocks: Option<(String, String)>,
}

/// Looks ahead, on a thread that may be busy for long: rules that rarely occur take a search over years.
pub(crate) async fn preview(app: &AppState, timing: &Timing, now: Timestamp) -> Result<Preview, PageError> {
    let permits = app.previews.clone();
    let permit = tokio::time::timeout(TURN, permits.acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(PageError::Busy);
    };
    let timing = timing.clone();
    let looked = tokio::task::spawn_blocking(move || {
        // Until the search ends, also if its request has ended.
        let _permit = permit;
        ahead(&timing, now)
    });
    looked.await.map_err(|_| PageError::Internal)
}

fn ahead(timing: &Timing, now: Timestamp) -> Preview {
    let mut before = now;
    let next = timing.upcoming(now, LISTED).into_iter().map(|at| {
        let clocks = changed_clocks(&timing.zone, before, at);
        before = at;
        Occurrence { at, clocks }
    });
    let next: Vec<Occurrence> = next.collect();
    let end = now + Duration::from_secs(86_400);
    let day = std::iter::successors(timing.next(now), |at| timing.next(*at)).take_while(|at| *at <= end);
    let found = day.take(COUNTED + 1).count();
    Preview {
        next,
        in_a_day: found.min(COUNTED),
        more: found > COUNTED,
    }
}

/// The offsets of two instants, if they differ.
pub(crate) fn changed_clocks(zone: &TimeZone, from: Timestamp, to: Timestamp) -> Option<(String, String)> {
    let offset = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%:z").to_string();
    let (before, after) = (offset(from), offset(to));
    (before != after).then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::cron::DstRule;

    fn looked(spec: &str, zone: &str, now: &str) -> Preview {
        let of = TimeZone::get(zone).unwrap();
        let timing = Timing::parse("x", spec, zone, &of, DstRule::default()).unwrap();
        ahead(&timing, now.parse().unwrap())
    }

    #[test]
    fn a_day_is_counted_within_its_bound() {
        let found = looked("*/15 * * * *", "UTC", "2026-01-01T00:00:00Z");
        assert_eq!((found.next.len(), found.in_a_day, found.more), (LISTED, 96, false));
        let found = looked("* * * * * *", "UTC", "2026-01-01T00:00:00Z");
        assert_eq!((found.in_a_day, found.more), (COUNTED, true));
        let found = looked("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z");
        assert_eq!((found.next.len(), found.in_a_day), (LISTED, 0));
    }

    #[test]
    fn changes_of_clocks_are_noted() {
        let found = looked("0 3 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z");
        let noted: Vec<_> = found.next.iter().map(|one| one.clocks.clone()).collect();
        let change = Some(("+01:00".to_owned(), "+02:00".to_owned()));
        assert_eq!(noted[..3], [None, change, None]);
    }
}
