//! All rules of all watched listeners, with tags.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_elasticloadbalancingv2::{Client, types};

use super::{Alb, DESCRIBE_RULES, actions, conditions};
use crate::aws::{at_once, fault, incomplete};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::record::SCHEMA;
use crate::domain::rule::{GroupId, RouteId};
use crate::domain::table::{Listener, ListenerRule, RouteTable};
use crate::domain::time::Timestamp;

const DESCRIBE_LISTENERS: &str = "elasticloadbalancing:DescribeListeners";
const DESCRIBE_TAGS: &str = "elasticloadbalancing:DescribeTags";
pub(super) const DESCRIBE_GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";

/// The largest page of DescribeRules and DescribeListeners. Source: Elastic Load Balancing API reference.
const PAGE: i32 = 400;
/// DescribeTags takes at most 20 ARNs. Source: Elastic Load Balancing API reference.
const ARNS_PER_DESCRIBE_TAGS: usize = 20;
/// The ports of listeners seldom change: they are asked for again in one minute of so many.
const LISTENERS_EVERY: usize = 5;
/// Set on its load balancers by the AWS Load Balancer Controller; the value is the cluster's name. Source: its live
/// documentation, "Resource tags".
const CONTROLLER_TAG: &str = "elbv2.k8s.aws/cluster";
/// A rule that is deleted between the list of rules and that of tags makes the second fail, and a listener that is deleted the
/// list of its rules: begin again, this often, and with nothing taken for known.
const READS: usize = 3;

/// Tags of each ARN.
pub(super) type Tags = HashMap<String, BTreeMap<String, String>>;

impl Alb {
    pub(super) async fn read_table(&self, now: Timestamp, mut known: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        let mut reads = 1;
        loop {
            match self.read_once(now, known).await {
                Err(fault) if fault.kind == FaultKind::NotFound && reads < READS => {
                    reads += 1;
                    known = None;
                }
                done => return done,
            }
        }
    }

    async fn read_once(&self, now: Timestamp, before: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        let known = Known::new(now, before);
        let described = async {
            match known.listeners(&self.listeners) {
                Some(listeners) => Ok(listeners),
                None => self.describe_listeners().await,
            }
        };
        // At once: a cold start waits for the slower of the two.
        let (described, homes) = tokio::join!(described, self.homes());
        let (described, homes) = (described?, homes?);
        let rules = described.iter().map(|listener| {
            let (client, arn) = (self.client.clone(), listener.arn.clone());
            async move { rules_of(&client, &arn).await }
        });
        let rules: Result<Vec<_>, _> = at_once(rules.collect::<Vec<_>>()).await.into_iter().collect();
        let rules = rules?;
        let balancers = described.iter().map(|listener| &listener.load_balancer);
        let mut tagged: Vec<_> = balancers.filter(|arn| known.balancer(arn).is_none()).cloned().collect();
        let arns = rules.iter().flatten().map(|rule| &rule.arn);
        tagged.extend(arns.filter(|arn| known.tags(arn).is_none()).map(|arn| arn.0.clone()));
        tagged.sort();
        tagged.dedup();
        let mut tags = tags_of(&self.client, tagged).await?;
        let listeners = described.into_iter().zip(rules).map(|(mut listener, mut rules)| {
            for rule in &mut rules {
                let read = tags.remove(&rule.arn.0);
                rule.tags = read.or_else(|| known.tags(&rule.arn).cloned()).unwrap_or_default();
            }
            let read = tags.get(&listener.load_balancer);
            let controller = read.map(|tags| tags.get(CONTROLLER_TAG).cloned());
            listener.controller = controller
                .or_else(|| known.balancer(&listener.load_balancer).cloned())
                .flatten();
            listener.waker = homes.of(&listener.load_balancer).cloned();
            listener.rules = rules;
            listener
        });
        let mut listeners: Vec<_> = listeners.collect();
        self.learn_forwarded_for(&mut listeners, before).await;
        Ok(RouteTable {
            schema: SCHEMA,
            read_at: now,
            swept_at: None,
            listeners,
            names: BTreeMap::new(),
            loose: BTreeMap::new(),
            ways: None,
        })
    }

    /// The watched listeners in the order given, without their rules.
    async fn describe_listeners(&self) -> Result<Vec<Listener>, Fault> {
        if self.listeners.is_empty() {
            // Without ARNs the call would be refused.
            return Ok(Vec::new());
        }
        let mut found = HashMap::new();
        match self.listeners_of(&self.listeners).await {
            Ok(listeners) => found.extend(listeners),
            // One that was deleted must not take the others down.
            Err(fault) if fault.kind == FaultKind::NotFound => {
                for arn in &self.listeners {
                    match self.listeners_of(std::slice::from_ref(arn)).await {
                        Ok(listeners) => found.extend(listeners),
                        Err(fault) if fault.kind == FaultKind::NotFound => {}
                        Err(fault) => return Err(fault),
                    }
                }
            }
            Err(fault) => return Err(fault),
        }
        let missing = self.listeners.iter().filter(|arn| !found.contains_key(*arn));
        let missing: Vec<_> = missing.map(String::as_str).collect();
        if found.is_empty() {
            let words = format!("there is no listener {}", missing.join(", "));
            return Err(Fault::new(FaultKind::NotFound, DESCRIBE_LISTENERS, words));
        }
        if !missing.is_empty() {
            tracing::error!(
                listeners = missing.join(", "),
                "watched listeners do not exist: take them out of AUTOSTOPPING_LISTENERS"
            );
        }
        Ok(self.listeners.iter().filter_map(|arn| found.remove(arn)).collect())
    }

    /// These listeners by their ARNs, without their rules.
    async fn listeners_of(&self, arns: &[String]) -> Result<HashMap<String, Listener>, Fault> {
        let call = self.client.describe_listeners().set_listener_arns(Some(arns.to_vec()));
        let mut pages = call.into_paginator().send();
        let mut found = HashMap::new();
        while let Some(page) = pages.next().await {
            for listener in page.map_err(|error| fault(DESCRIBE_LISTENERS, error))?.listeners() {
                let lacks = |what| incomplete(DESCRIBE_LISTENERS, what);
                let arn = listener.listener_arn().ok_or_else(|| lacks("a listener's ARN"))?;
                let load_balancer = listener.load_balancer_arn();
                let port = listener.port().and_then(|port| u16::try_from(port).ok());
                let listener = Listener {
                    arn: arn.to_owned(),
                    load_balancer: load_balancer.ok_or_else(|| lacks("a load balancer's ARN"))?.to_owned(),
                    port: port.ok_or_else(|| lacks("a listener's port"))?,
                    waker: None,
                    controller: None,
                    forwarded_for: None,
                    rules: Vec::new(),
                };
                found.insert(arn.to_owned(), listener);
            }
        }
        Ok(found)
    }

    /// What listeners lead to that share a load balancer with those of the table.
    pub(super) async fn unwatched_routes(&self, table: &RouteTable) -> Result<Vec<(GroupId, RouteId)>, Fault> {
        let mut found = Vec::new();
        for listener in self.unwatched_listeners(table).await? {
            for rule in rules_of(&self.client, &listener).await? {
                let groups = rule.actions.iter().flat_map(|action| action.groups());
                found.extend(groups.map(|(group, _)| (group, rule.arn.clone())));
            }
        }
        Ok(found)
    }

    /// The listeners that share a load balancer with those of the table and are not watched.
    pub(super) async fn unwatched_listeners(&self, table: &RouteTable) -> Result<Vec<String>, Fault> {
        let balancers: BTreeSet<&str> = table.listeners.iter().map(|one| one.load_balancer.as_str()).collect();
        let mut found = Vec::new();
        for balancer in balancers {
            let call = self.client.describe_listeners().load_balancer_arn(balancer);
            let mut pages = call.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault(DESCRIBE_LISTENERS, error))?;
                let arns = page.listeners().iter().filter_map(|listener| listener.listener_arn());
                found.extend(arns.map(str::to_owned));
            }
        }
        found.retain(|arn| !self.listeners.contains(arn));
        Ok(found)
    }
}

/// What need not be asked again now.
struct Known<'a> {
    /// None when they are to be described again.
    listeners: Option<&'a [Listener]>,
    /// The cluster whose controller owns a load balancer.
    balancers: BTreeMap<&'a str, &'a Option<String>>,
    tags: BTreeMap<&'a RouteId, &'a BTreeMap<String, String>>,
}

impl<'a> Known<'a> {
    /// All of the table but the tags of some rules, others each minute, and now and then the listeners. The tags of parked
    /// rules are ours and nobody's to change.
    fn new(now: Timestamp, table: Option<&'a RouteTable>) -> Self {
        let listeners = || table.into_iter().flat_map(|table| &table.listeners);
        let rules = || listeners().flat_map(|listener| &listener.rules);
        let changeable: BTreeMap<_, _> = rules()
            .filter(|rule| rule.parks().is_none())
            .map(|rule| (&rule.arn, &rule.tags))
            .collect();
        let turns = changeable.len().div_ceil(ARNS_PER_DESCRIBE_TAGS).max(1);
        let minute = usize::try_from(now.as_second() / 60).unwrap_or_default();
        let turn = minute % turns;
        let settled = changeable
            .into_iter()
            .enumerate()
            .filter(|(place, _)| place / ARNS_PER_DESCRIBE_TAGS != turn)
            .map(|(_, known)| known);
        let parked = rules().filter(|rule| rule.parks().is_some());
        Known {
            listeners: table
                .map(|table| table.listeners.as_slice())
                .filter(|_| minute % LISTENERS_EVERY != 0),
            balancers: listeners()
                .map(|listener| (listener.load_balancer.as_str(), &listener.controller))
                .collect(),
            tags: settled.chain(parked.map(|rule| (&rule.arn, &rule.tags))).collect(),
        }
    }

    /// These listeners without their rules, if all of them are known.
    fn listeners(&self, arns: &[String]) -> Option<Vec<Listener>> {
        let known = self.listeners?;
        let bare = |listener: &Listener| Listener {
            rules: Vec::new(),
            ..listener.clone()
        };
        arns.iter()
            .map(|arn| known.iter().find(|listener| listener.arn == *arn).map(bare))
            .collect()
    }

    fn balancer(&self, arn: &str) -> Option<&'a Option<String>> {
        self.balancers.get(arn).copied()
    }

    fn tags(&self, arn: &RouteId) -> Option<&'a BTreeMap<String, String>> {
        self.tags.get(arn).copied()
    }
}

/// The rules of a listener by priority, the default last; without tags.
pub(super) async fn rules_of(client: &Client, listener: &str) -> Result<Vec<ListenerRule>, Fault> {
    let call = client.describe_rules().listener_arn(listener).page_size(PAGE);
    let mut pages = call.into_paginator().send();
    let mut rules = Vec::new();
    while let Some(page) = pages.next().await {
        for rule in page.map_err(|error| fault(DESCRIBE_RULES, error))?.rules() {
            rules.push(listener_rule(rule)?);
        }
    }
    rules.sort_by_key(|rule: &ListenerRule| rule.priority.unwrap_or(u32::MAX));
    Ok(rules)
}

/// The tags of these; each of them is in the answer, if only with none.
pub(super) async fn tags_of(client: &Client, arns: Vec<String>) -> Result<Tags, Fault> {
    let calls = arns.chunks(ARNS_PER_DESCRIBE_TAGS).map(|arns| {
        let call = client.describe_tags().set_resource_arns(Some(arns.to_vec()));
        async move { call.send().await.map_err(|error| fault(DESCRIBE_TAGS, error)) }
    });
    let mut tags = Tags::new();
    for answer in at_once(calls.collect::<Vec<_>>()).await {
        for described in answer?.tag_descriptions() {
            let pairs = described.tags().iter().filter_map(|tag| {
                let value = tag.value().unwrap_or_default();
                Some((tag.key()?.to_owned(), value.to_owned()))
            });
            if let Some(arn) = described.resource_arn() {
                tags.insert(arn.to_owned(), pairs.collect());
            }
        }
    }
    match arns.iter().find(|arn| !tags.contains_key(*arn)) {
        // Without its tags a managed rule would look like a stranger's.
        Some(arn) => Err(incomplete(DESCRIBE_TAGS, &format!("the tags of {arn}"))),
        None => Ok(tags),
    }
}

fn listener_rule(rule: &types::Rule) -> Result<ListenerRule, Fault> {
    let arn = rule
        .rule_arn()
        .ok_or_else(|| incomplete(DESCRIBE_RULES, "a rule's ARN"))?;
    let priority = match rule.priority() {
        _ if rule.is_default() == Some(true) => None,
        Some("default") => None,
        Some(number) => Some(
            number
                .parse()
                .map_err(|_| incomplete(DESCRIBE_RULES, "a readable priority"))?,
        ),
        None => return Err(incomplete(DESCRIBE_RULES, "a rule's priority")),
    };
    let transforms = rule.transforms().iter().filter_map(|transform| transform.r#type());
    Ok(ListenerRule {
        arn: RouteId(arn.to_owned()),
        priority,
        conditions: rule.conditions().iter().map(conditions::from_sdk).collect(),
        actions: rule.actions().iter().map(actions::from_sdk).collect(),
        transforms: transforms.map(|kind| kind.as_str().to_owned()).collect(),
        tags: BTreeMap::new(),
    })
}
