//! What a rule would be if the listeners were otherwise: the judgement of a look, without a look. Nothing is claimed and
//! nothing is changed.

use super::Driver;
use std::collections::BTreeMap;

use super::observe::add_ways;
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::fault::Fault;
use crate::domain::plan::plan;
use crate::domain::record::Record;
use crate::domain::rule::{GroupId, Problem, ResourceId, RuleName};
use crate::domain::seen::{Fact, GroupHealth, ResourceSeen, Stimulus};
use crate::domain::table::RouteTable;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};
use crate::rules::{Managed, Rules};

/// What would be found of a rule.
#[derive(Debug, Clone)]
pub struct Preview {
    pub managed: Managed,
    /// All that would speak against managing it.
    pub problems: Vec<Problem>,
    /// The target groups behind its routes.
    pub groups: Vec<GroupId>,
    /// The machines behind them, in the order of their ids; none when EC2 did not say.
    pub machines: Vec<ResourceSeen>,
    /// What the ledger remembers of it.
    pub record: Option<Record>,
    /// What could not be read, so that the problems may not be all.
    pub unseen: Vec<Fault>,
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// The listeners as they are now, and all other ways to machines as far as they can be read in one go.
    ///
    /// # Errors
    /// When the load balancer cannot be read or the ledger cannot be used.
    pub async fn table_now(&self) -> Result<RouteTable, LedgerError> {
        let before = self.ledger.load_table().await?.map(|stored| stored.table);
        let table = self.read_table(before.as_ref(), None).await?;
        Ok(self.ways_before_stop(table).await?.0)
    }

    /// The machines that listener rules of the table lead to which are not managed, each with the rule that does.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn ways_now(&self, table: &RouteTable) -> Fact<BTreeMap<ResourceId, String>> {
        self.ways_here(table).await
    }

    /// What would be found of this rule in this table; none when there would be no such rule. `made` are target groups in
    /// the table that do not exist yet, or not yet with all these targets; `here` is [`Driver::ways_now`] of the table.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn preview(
        &self,
        table: &RouteTable,
        name: &RuleName,
        made: &[GroupHealth],
        here: &Fact<BTreeMap<ResourceId, String>>,
    ) -> Result<Option<Preview>, LedgerError> {
        let rules = Rules::new(table, &self.settings);
        let Some(managed) = rules.get(name) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let stored = self.ledger.load(name).await?;
        let record = stored.clone().unwrap_or_else(|| Record::new(name.clone(), now));
        let (mut seen, _) = self.facts(managed, &record, table, made).await;
        let mut unseen: Vec<Fault> = [seen.health.as_ref().err(), seen.resources.as_ref().err()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        match here {
            Ok(here) => add_ways(&mut seen, |machine| here.get(machine).cloned()),
            Err(fault) => unseen.push(fault.clone()),
        }
        for machine in seen.resources.iter_mut().flatten() {
            let claimants = self.ledger.claimants(&machine.id).await?;
            let mut others = claimants.into_iter().filter(|other| other != name);
            machine.other_owner = others.find(|other| rules.get(other).is_some());
        }
        let groups = seen.health.iter().flatten().map(|group| group.id.clone()).collect();
        Ok(Some(Preview {
            managed: managed.clone(),
            problems: plan(now, &managed.rule, &seen, &Stimulus::Tick)
                .record
                .snapshot
                .problems,
            groups,
            machines: seen.resources.unwrap_or_default(),
            record: stored,
            unseen,
        }))
    }
}
