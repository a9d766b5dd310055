//! Load reports: what was issued and what is in progress, cluster by cluster. They decide whether a rule is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3::{
    LoadStatsRequest, LoadStatsResponse, load_reporting_service_server::LoadReportingService,
};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::hub::Hub;
use super::names::ClusterName;
use super::plane::{Covered, Load, Loads};
use super::server::stream_of;
use super::wire::{duration, span};
use crate::clock;
use crate::domain::rule::RuleName;
use crate::domain::time::{Timestamp, after, before, since};

/// Longer than any `idle`.
const KEPT: Duration = Duration::from_secs(25 * 3600);
/// A clock that is this much behind was set back. Less is lost between two readings.
const STEP: Duration = Duration::from_millis(500);
/// Reports that are this near to each other leave no gap.
const SLACK: Duration = Duration::from_secs(2);

/// One report: each cluster with how long it covers, what was issued and what is in progress.
pub type Report = Vec<(Option<ClusterName>, Duration, u64, u64)>;

/// What was reported. Loads of every stream are use. Time is covered by reports only while there is one stream, of two Envoys
/// one may be the idle one, and from its first message on: a cluster that came while there was none was not counted.
#[derive(Debug, Default)]
pub struct Book {
    loads: Loads,
    last: u64,
    /// The streams that are open.
    streams: BTreeSet<u64>,
    /// When the first message came since a stream was opened or closed.
    heard_since: Option<Timestamp>,
    /// The clock when it was last read, by itself and by one that nobody sets.
    read_at: Option<(Timestamp, Instant)>,
}

impl Book {
    pub fn open(&mut self) -> u64 {
        self.last += 1;
        self.streams.insert(self.last);
        self.heard_since = None;
        self.last
    }

    pub fn close(&mut self, id: u64, now: Timestamp, at: Instant) {
        self.notice_the_clock(now, at);
        self.streams.remove(&id);
        self.heard_since = None;
        if self.streams.is_empty() {
            self.loads.lost = Some(now);
        }
    }

    pub fn read(&mut self, now: Timestamp, at: Instant) -> Loads {
        self.notice_the_clock(now, at);
        self.loads.clone()
    }

    /// Covered is what all of Envoy's own clusters cover: one of a rule may be younger than the report.
    pub fn report(&mut self, now: Timestamp, at: Instant, report: &Report) {
        self.notice_the_clock(now, at);
        let mut rules: BTreeMap<&RuleName, Load> = BTreeMap::new();
        for (name, span, issued, in_progress) in report {
            let Some(name) = name else { continue };
            if *issued + *in_progress == 0 {
                continue;
            }
            let load = rules.entry(&name.rule).or_insert(Load {
                from: now,
                to: now,
                issued: 0,
                in_progress: 0,
            });
            load.from = load.from.min(before(now, *span));
            load.issued += issued;
            load.in_progress += in_progress;
        }
        for (rule, load) in rules {
            note(self.loads.rules.entry(rule.clone()).or_default(), load);
        }
        let heard_since = *self.heard_since.get_or_insert(now);
        let own = report.iter().filter(|(name, ..)| name.is_none());
        if let Some(span) = own.map(|(_, span, ..)| *span).min()
            && self.streams.len() == 1
        {
            self.cover(before(now, span).max(heard_since), now);
        }
        self.forget(before(now, KEPT));
    }

    /// What was open at some time since `from` by Envoy's own count: sessions that no report tells of are among it.
    pub fn note_open<'a>(
        &mut self,
        from: Timestamp,
        now: Timestamp,
        at: Instant,
        rules: impl Iterator<Item = &'a RuleName>,
    ) {
        self.notice_the_clock(now, at);
        for rule in rules {
            let load = Load {
                from: from.min(now),
                to: now,
                issued: 0,
                in_progress: 1,
            };
            note(self.loads.rules.entry(rule.clone()).or_default(), load);
        }
    }

    fn cover(&mut self, from: Timestamp, to: Timestamp) {
        self.loads.lost = None;
        match self.loads.covered.last_mut() {
            Some(last) if since(from, last.to) <= SLACK => last.to = last.to.max(to),
            _ => self.loads.covered.push(Covered { from, to }),
        }
    }

    /// A clock that is set back goes through minutes again which are known already. Of their second time nothing is.
    fn notice_the_clock(&mut self, now: Timestamp, at: Instant) {
        if let Some((then, read_at)) = self.read_at {
            let back = since(after(then, at.saturating_duration_since(read_at)), now);
            if back > STEP {
                let from = before(then, back);
                self.loads.covered.retain(|covered| covered.from < from);
                for covered in &mut self.loads.covered {
                    covered.to = covered.to.min(from);
                }
                self.heard_since = self.heard_since.map(|since| since.min(from));
            }
        }
        self.read_at = Some((now, at));
    }

    fn forget(&mut self, old: Timestamp) {
        self.loads.covered.retain(|covered| covered.to >= old);
        self.loads.rules.retain(|_, loads| {
            let stale = loads.iter().take_while(|load| load.to < old).count();
            loads.drain(..stale);
            !loads.is_empty()
        });
    }
}

/// One entry for a minute is enough, so that a day of a rule in use stays small.
fn note(loads: &mut Vec<Load>, load: Load) {
    let minute = |time: Timestamp| time.as_second().div_euclid(60);
    match loads.last_mut() {
        Some(last) if minute(last.from) == minute(load.from) && since(load.from, last.to) <= SLACK => {
            (last.from, last.to) = (last.from.min(load.from), load.to);
            last.issued += load.issued;
            last.in_progress = last.in_progress.max(load.in_progress);
        }
        _ => loads.push(load),
    }
}

/// The service.
pub struct Reports {
    pub hub: Arc<Hub>,
    pub interval: Duration,
}

type Answers = Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LoadReportingService for Reports {
    type StreamLoadStatsStream = Answers;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let wish = LoadStatsResponse {
            send_all_clusters: true,
            load_reporting_interval: duration(self.interval),
            ..Default::default()
        };
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            let id = hub.with_book(Book::open);
            // The receiver is in the answer that is returned below.
            let _ = sender.send(Ok(wish));
            follow(&hub, request.into_inner()).await;
            let now = hub.now();
            hub.with_book(|book| book.close(id, now, clock::instant()));
            drop(sender);
        });
        Ok(Response::new(stream_of(receiver)))
    }
}

/// Envoy is told once what to report, and goes on by itself. A cluster that has come since is counted from the next report on:
/// what began and ended in it before that is in none.
async fn follow(hub: &Hub, mut reports: Streaming<LoadStatsRequest>) {
    loop {
        let message = tokio::select! {
            message = reports.message() => message,
            () = hub.closed() => return,
        };
        let Ok(Some(message)) = message else { return };
        let report: Report = message.cluster_stats.iter().map(read).collect();
        let now = hub.now();
        hub.with_book(|book| book.report(now, clock::instant(), &report));
    }
}

fn read(
    stats: &envoy_types::pb::envoy::config::endpoint::v3::ClusterStats,
) -> (Option<ClusterName>, Duration, u64, u64) {
    let localities = &stats.upstream_locality_stats;
    (
        ClusterName::parse(&stats.cluster_name),
        span(stats.load_report_interval.as_ref()),
        localities.iter().map(|locality| locality.total_issued_requests).sum(),
        localities
            .iter()
            .map(|locality| locality.total_requests_in_progress)
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times by the clock that may be set and by the other, in seconds.
    struct Times(Instant);

    impl Times {
        fn at(&self, clock: u64, other: u64) -> (Timestamp, Instant) {
            let clock = after(Timestamp::UNIX_EPOCH, Duration::from_secs(clock));
            (clock, self.0 + Duration::from_secs(other))
        }
    }

    fn quiet(span: u64) -> Report {
        vec![(None, Duration::from_secs(span), 0, 0)]
    }

    fn seconds(covered: &[Covered]) -> Vec<(i64, i64)> {
        covered
            .iter()
            .map(|it| (it.from.as_second(), it.to.as_second()))
            .collect()
    }

    /// Red when a report covered all that it tells of: one after a pause knows nothing of clusters that came in it.
    #[test]
    fn a_pause_between_streams_is_covered_by_no_report() {
        let (times, mut book) = (Times(Instant::now()), Book::default());
        let report = |book: &mut Book, clock: u64, report: &Report| {
            let (now, at) = times.at(clock, clock);
            book.report(now, at, report);
        };
        let id = book.open();
        report(&mut book, 1_000, &Report::new());
        report(&mut book, 1_005, &quiet(5));
        let (now, at) = times.at(1_006, 1_006);
        book.close(id, now, at);
        assert_eq!(book.read(now, at).lost, Some(now));
        let id = book.open();
        report(&mut book, 1_100, &quiet(95));
        report(&mut book, 1_105, &quiet(5));
        let (now, at) = times.at(1_105, 1_105);
        assert_eq!(seconds(&book.read(now, at).covered), [(1_000, 1_005), (1_100, 1_105)]);
        book.close(id, now, at);
    }

    /// Red when what was covered before the clock was set back stayed so: a lost stream would have looked like an idle hour.
    #[test]
    fn minutes_that_come_a_second_time_are_unknown() {
        let (times, mut book) = (Times(Instant::now()), Book::default());
        let id = book.open();
        for clock in [1_000, 1_005, 1_010] {
            let (now, at) = times.at(clock, clock);
            book.report(now, at, &quiet(5));
        }
        let (now, at) = times.at(1_011, 1_011);
        assert_eq!(seconds(&book.read(now, at).covered), [(1_000, 1_010)]);
        // Ten minutes back, and no report any more.
        let (now, at) = times.at(412, 1_012);
        assert_eq!(seconds(&book.read(now, at).covered), []);
        let (now, at) = times.at(415, 1_015);
        book.report(now, at, &quiet(5));
        let (now, at) = times.at(420, 1_020);
        book.close(id, now, at);
        let (now, at) = times.at(1_100, 1_700);
        assert_eq!(seconds(&book.read(now, at).covered), [(411, 415)]);
        // Forward, what is left out is a gap.
        let id = book.open();
        let (now, at) = times.at(8_995, 1_700);
        book.report(now, at, &quiet(5));
        let (now, at) = times.at(9_000, 1_705);
        book.report(now, at, &quiet(5));
        assert_eq!(seconds(&book.read(now, at).covered), [(411, 415), (8_995, 9_000)]);
        book.close(id, now, at);
    }

    /// Red when any stream's reports covered: an idle Envoy beside the one in use made its rules look idle.
    #[test]
    fn two_that_report_cover_nothing_and_both_show_use() {
        let (times, mut book) = (Times(Instant::now()), Book::default());
        let first = book.open();
        for clock in [995, 1_000] {
            let (now, at) = times.at(clock, clock);
            book.report(now, at, &quiet(5));
        }
        let second = book.open();
        let (now, at) = times.at(1_005, 1_005);
        book.report(now, at, &quiet(5));
        let used = (ClusterName::parse("a@1/tcp-1"), Duration::from_secs(5), 0, 1);
        book.report(now, at, &[quiet(5), vec![used]].concat());
        let loads = book.read(now, at);
        assert_eq!(seconds(&loads.covered), [(995, 1_000)]);
        assert_eq!(loads.rules.len(), 1);
        let (now, at) = times.at(1_008, 1_008);
        book.close(second, now, at);
        let (now, at) = times.at(1_010, 1_010);
        book.report(now, at, &quiet(5));
        let (now, at) = times.at(1_015, 1_015);
        book.report(now, at, &quiet(5));
        assert_eq!(seconds(&book.read(now, at).covered), [(995, 1_000), (1_010, 1_015)]);
        book.close(first, now, at);
        assert_eq!(book.read(now, at).lost, Some(now));
    }
}
