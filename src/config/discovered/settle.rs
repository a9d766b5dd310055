//! Which of the tags' rules are in use. As with rule files, what can no longer be read stays as it was, and what stays as it was
//! goes before what is new: else whoever may tag a machine could take another's name or host away.

use std::collections::BTreeMap;

use crate::config::proxy_rules::{ProxyRule, Wanted, conflicts};
use crate::config::tags;
use crate::domain::rule::{ResourceId, RuleName};

use super::{ACCESS_POINT, Here, PROXY, Tagged, opted, rule};

/// What the tags come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    pub rules: Vec<ProxyRule>,
    /// One sentence each, with the machine it is about.
    pub problems: Vec<(ResourceId, String)>,
    /// Each machine with the tags by which it is, or was last, in use: what to give the next time.
    pub last: Vec<Tagged>,
}

/// A machine for this proxy.
struct Machine<'t> {
    id: &'t ResourceId,
    /// As it is tagged.
    now: Option<Reading<'t>>,
    /// As it was tagged when it was last in use.
    last: Option<Reading<'t>>,
}

/// Tags, and the rule of this one machine that they say.
#[derive(Clone)]
struct Reading<'t> {
    tagged: &'t Tagged,
    rule: ProxyRule,
}

impl<'t> Machine<'t> {
    /// What it says, if that is what it said before.
    fn same(&self) -> Option<&Reading<'t>> {
        match (&self.now, &self.last) {
            (Some(now), Some(last)) if now.rule != last.rule => None,
            (Some(now), Some(_)) => Some(now),
            (None, last) => last.as_ref(),
            (Some(_), None) => None,
        }
    }
}

/// A rule of several machines, which all say the same but for themselves.
struct Group<'t>(Vec<Reading<'t>>);

impl<'t> Group<'t> {
    fn agrees(&self, with: &Reading<'_>) -> bool {
        let apart = |rule: &ProxyRule| ProxyRule {
            resources: Vec::new(),
            ..rule.clone()
        };
        apart(&self.0[0].rule) == apart(&with.rule)
    }

    fn first(&self) -> &ResourceId {
        &self.0[0].tagged.id
    }

    fn rule(&self) -> ProxyRule {
        ProxyRule {
            resources: self.0.iter().map(|one| Wanted::One(one.tagged.id.clone())).collect(),
            ..self.0[0].rule.clone()
        }
    }
}

type Groups<'t> = BTreeMap<RuleName, Group<'t>>;

/// Reads the tags of all that there is. `last` is what the previous answer gave; the rules of `files` go before any tags, which
/// more people may set.
pub fn discovered(all: &[Tagged], last: &[Tagged], files: &[ProxyRule], here: &Here<'_>) -> Discovered {
    let mut found = Discovered::default();
    let machines = found.read(all, last, here);
    let mut groups = found.unchanged(&machines);
    let (mut new, mut back) = found.changed(&machines, &mut groups);
    for name in found.refused(files, &groups, &new) {
        groups.remove(&name);
        let again = new.remove(&name).into_iter().flat_map(|group| group.0);
        back.extend(again.map(|one| &one.tagged.id));
    }
    groups.append(&mut new);
    for machine in machines.iter().filter(|machine| back.contains(&machine.id)) {
        back_to_last(machine, files, &mut groups);
    }
    found.rules = groups.values().map(Group::rule).collect();
    for machine in &machines {
        let used = groups.values().flat_map(|group| &group.0);
        let used = used.map(|one| one.tagged).find(|tagged| tagged.id == *machine.id);
        let last = machine.last.as_ref().map(|last| last.tagged);
        found.last.extend(used.or(last).cloned());
    }
    found
}

impl Discovered {
    fn tell(&mut self, id: &ResourceId, problem: String) {
        self.problems.push((id.clone(), problem));
    }

    /// The machines for this proxy. A proxy is never one, itself least of all.
    fn read<'t>(&mut self, all: &'t [Tagged], last: &'t [Tagged], here: &Here<'_>) -> Vec<Machine<'t>> {
        let is_here = |tagged: &Tagged| Some(&tagged.id) == here.machine;
        let proxies = all.iter().filter(|tagged| !is_here(tagged));
        let proxies: Vec<&str> = proxies
            .filter_map(|tagged| tagged.tags.get(ACCESS_POINT).map(|name| name.trim()))
            .collect();
        let mut machines = Vec::new();
        for tagged in all {
            let is_proxy = is_here(tagged) || tagged.tags.contains_key(ACCESS_POINT);
            let opted = match opted(tagged, &proxies, here) {
                Ok(false) => continue,
                _ if is_proxy => Err("it is a proxy, which is never put to sleep".to_owned()),
                opted => opted.map(|_| ()),
            };
            let read = opted.map_err(|problem| vec![problem]);
            let now = match read.and_then(|()| rule(tagged, here)) {
                Ok(rule) => Some(Reading { tagged, rule }),
                Err(problems) => {
                    for problem in problems {
                        self.tell(&tagged.id, problem);
                    }
                    None
                }
            };
            let last = last.iter().find(|last| last.id == tagged.id && !is_proxy);
            let last = last.and_then(|tagged| {
                Some(Reading {
                    tagged,
                    rule: rule(tagged, here).ok()?,
                })
            });
            machines.push(Machine {
                id: &tagged.id,
                now,
                last,
            });
        }
        self.unseen(all, here);
        machines
    }

    /// Whether the others in the Region can know of this proxy.
    fn unseen(&mut self, all: &[Tagged], here: &Here<'_>) {
        let Some(machine) = here.machine else { return };
        let shared = |tagged: &Tagged| tagged.tags.get(PROXY).is_some_and(|value| value.trim() == "true");
        let seen = |tagged: &Tagged| tagged.id == *machine && tagged.tags.contains_key(ACCESS_POINT);
        if all.iter().any(shared) && !all.iter().any(seen) {
            let name = here.access_point.unwrap_or("ITS accessPointID");
            self.tell(
                machine,
                format!(
                    "other proxies in this Region do not see this one: give its machine the tag {ACCESS_POINT} = {name}"
                ),
            );
        }
    }

    /// The rules of machines that say what they said before, or nothing that can be read.
    fn unchanged<'t>(&mut self, machines: &[Machine<'t>]) -> Groups<'t> {
        let mut groups = Groups::new();
        for same in machines.iter().filter_map(Machine::same) {
            self.join(&mut groups, same);
        }
        groups
    }

    /// The rules of names that are not taken, and the machines that cannot be what they say.
    fn changed<'t>(&mut self, machines: &[Machine<'t>], groups: &mut Groups<'t>) -> (Groups<'t>, Vec<&'t ResourceId>) {
        let (mut new, mut back) = (Groups::new(), Vec::new());
        let mut by_name: BTreeMap<&RuleName, Vec<&Reading<'t>>> = BTreeMap::new();
        for machine in machines.iter().filter(|machine| machine.same().is_none()) {
            if let Some(now) = &machine.now {
                by_name.entry(&now.rule.name).or_default().push(now);
            }
        }
        for (name, some) in by_name {
            if groups.contains_key(name) {
                for one in some {
                    if !self.join(groups, one) {
                        back.push(&one.tagged.id);
                    }
                }
                continue;
            }
            let group = Group(some.into_iter().cloned().collect());
            let differing: Vec<_> = group.0.iter().filter(|one| !group.agrees(one)).collect();
            let Some(other) = differing.first() else {
                new.insert(name.clone(), group);
                continue;
            };
            // Nobody knows which of them is meant.
            self.tell(group.first(), differs(&other.tagged.id, name));
            for one in &differing {
                self.tell(&one.tagged.id, differs(group.first(), name));
            }
            back.extend(group.0.iter().map(|one| &one.tagged.id));
        }
        (new, back)
    }

    /// Adds a machine to the rule of its name, or makes it one; whether it agrees with the others.
    fn join<'t>(&mut self, groups: &mut Groups<'t>, one: &Reading<'t>) -> bool {
        let name = &one.rule.name;
        match groups.get_mut(name) {
            None => drop(groups.insert(name.clone(), Group(vec![one.clone()]))),
            Some(group) if group.agrees(one) => group.0.push(one.clone()),
            Some(group) => {
                let problem = differs(group.first(), name);
                self.tell(&one.tagged.id, problem);
                return false;
            }
        }
        true
    }

    /// The rules that want what an earlier one has: files, then what was there before, then what is new.
    fn refused(&mut self, files: &[ProxyRule], groups: &Groups<'_>, new: &Groups<'_>) -> Vec<RuleName> {
        let all: Vec<_> = groups.values().chain(new.values()).collect();
        let rules = named(files, all.iter().copied());
        let mut names = Vec::new();
        for (at, error) in conflicts(&rules) {
            if let Some(group) = at.checked_sub(files.len()).and_then(|at| all.get(at)) {
                self.tell(group.first(), error.what);
                names.push(group.0[0].rule.name.clone());
            }
        }
        names
    }
}

/// What a machine was in use as stands, unless that contradicts what others say by now.
fn back_to_last<'t>(machine: &Machine<'t>, files: &[ProxyRule], groups: &mut Groups<'t>) {
    let Some(last) = &machine.last else { return };
    if let Some(group) = groups.get_mut(&last.rule.name) {
        if group.agrees(last) {
            group.0.push(last.clone());
        }
        return;
    }
    let alone = Group(vec![last.clone()]);
    if conflicts(&named(files, groups.values().chain([&alone]))).is_empty() {
        groups.insert(last.rule.name.clone(), alone);
    }
}

/// With what each is called when another wants the same.
fn named<'g, 't: 'g>(files: &[ProxyRule], groups: impl Iterator<Item = &'g Group<'t>>) -> Vec<(String, ProxyRule)> {
    let files = files
        .iter()
        .map(|rule| (format!("the rule {}", rule.name), rule.clone()));
    let tags = groups.map(|group| (format!("the tags of {}", group.first()), group.rule()));
    files.chain(tags).collect()
}

fn differs(other: &ResourceId, name: &RuleName) -> String {
    format!(
        "it and {other} have the same {} = {name} and other tags that differ: give both the same, or each its name",
        tags::NAME
    )
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
