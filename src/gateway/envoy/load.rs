//! Load reports: what was issued and what is in progress, cluster by cluster. They decide whether a rule is idle.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3::{
    LoadStatsRequest, LoadStatsResponse, load_reporting_service_server::LoadReportingService,
};
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::hub::Hub;
use super::names::ClusterName;
use super::plane::{Covered, Load, Loads};
use super::server::stream_of;
use super::wire::{duration, span};
use crate::domain::rule::RuleName;
use crate::domain::time::{Timestamp, before, since};

/// Longer than any `idle`.
const KEPT: Duration = Duration::from_secs(25 * 3600);
/// Reports that are this near to each other leave no gap.
const SLACK: Duration = Duration::from_secs(2);

/// One report: each cluster with how long it covers, what was issued and what is in progress.
pub type Report = Vec<(Option<ClusterName>, Duration, u64, u64)>;

#[derive(Debug, Default)]
pub struct Book {
    loads: Loads,
    streams: u64,
    /// The stream that reports are taken from.
    stream: Option<u64>,
}

impl Book {
    pub fn open(&mut self) -> u64 {
        self.streams += 1;
        self.stream = Some(self.streams);
        self.streams
    }

    pub fn close(&mut self, id: u64, now: Timestamp) {
        if self.stream == Some(id) {
            self.stream = None;
            self.loads.lost = Some(now);
        }
    }

    pub fn read(&self) -> Loads {
        self.loads.clone()
    }

    /// Covered is what all of Envoy's own clusters cover: one of a rule may be younger than the report.
    pub fn report(&mut self, now: Timestamp, report: &Report) {
        let own = report
            .iter()
            .filter(|(name, ..)| name.is_none())
            .map(|(_, span, ..)| *span);
        let Some(span) = own.min() else { return };
        self.loads.lost = None;
        let from = before(now, span);
        match self.loads.covered.last_mut() {
            Some(last) if since(from, last.to) <= SLACK => last.to = last.to.max(now),
            _ => self.loads.covered.push(Covered { from, to: now }),
        }
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
        self.forget(before(now, KEPT));
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
            last.to = load.to;
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
            hub.with_book(|book| book.close(id, now));
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
        hub.with_book(|book| book.report(now, &report));
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
