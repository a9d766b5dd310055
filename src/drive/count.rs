//! What was counted: the metrics of rules that may be idle, asked for no others.

use super::Driver;
use super::observe::backend;
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::activity::{Backend, Counted, Question};
use crate::domain::idle;
use crate::domain::record::Record;
use crate::domain::seen::RouteSeen;
use crate::domain::table::RouteTable;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::rules::Managed;

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// What there is to ask about a rule now.
    pub(super) fn question(
        &self,
        managed: &Managed,
        record: &Record,
        table: &RouteTable,
        routes: &[RouteSeen],
    ) -> Option<Question> {
        let mut groups: Vec<Backend> = Vec::new();
        for route in routes {
            let Some((listener, _)) = table.find(&route.id) else {
                continue;
            };
            let weighted = backend(std::slice::from_ref(route), record, &self.settings.wakers);
            groups.extend(
                weighted
                    .into_iter()
                    .filter(|(_, weighted)| *weighted)
                    .map(|(group, _)| Backend {
                        group,
                        load_balancer: listener.load_balancer.clone(),
                    }),
            );
        }
        groups.sort();
        groups.dedup();
        idle::question(self.clock.now(), &managed.rule, record, groups)
    }

    /// The answer to what there is to ask, if anything; `known` when it answers that already.
    pub(super) async fn counted(
        &self,
        managed: &Managed,
        record: &Record,
        table: &RouteTable,
        routes: &[RouteSeen],
        known: Option<&Counted>,
    ) -> Option<Counted> {
        let question = self.question(managed, record, table, routes)?;
        if let Some(known) = known
            && known.question == question
        {
            return Some(known.clone());
        }
        self.count(vec![question]).await.pop()
    }

    /// Asks all these questions at once.
    pub(super) async fn count(&self, questions: Vec<Question>) -> Vec<Counted> {
        if questions.is_empty() {
            return Vec::new();
        }
        let answers = self.metrics.read(&questions).await;
        let counted = questions.into_iter().zip(answers);
        counted.map(|(question, answer)| Counted { question, answer }).collect()
    }
}
