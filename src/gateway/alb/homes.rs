//! Which waker target group serves which load balancer: a group belongs to one at most.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Alb;
use super::read::DESCRIBE_GROUPS;
use crate::aws::{fault, incomplete};
use crate::domain::fault::Fault;
use crate::domain::rule::GroupId;

/// The wakers, by ARN.
#[derive(Debug, Clone)]
pub(super) enum Homes {
    /// One for all listeners.
    One(GroupId),
    /// By the ARN of the load balancer.
    Each(BTreeMap<String, GroupId>),
}

impl Homes {
    /// The waker for the listeners of a load balancer.
    pub(super) fn of(&self, balancer: &str) -> Option<&GroupId> {
        match self {
            Homes::One(waker) => Some(waker),
            Homes::Each(wakers) => wakers.get(balancer),
        }
    }
}

impl Alb {
    /// Finds out once. A group that no rule names yet belongs to no load balancer, so where that matters it is asked for
    /// again.
    pub(super) async fn homes(&self) -> Result<Homes, Fault> {
        let remembered = self.homes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(homes) = remembered {
            return Ok(homes);
        }
        let (homes, all) = match self.wakers.as_slice() {
            [only] if !only.is_name() => (Homes::One(only.clone()), true),
            [_] => {
                let described = self.describe_wakers().await?.into_iter().next();
                let (waker, _) = described.ok_or_else(|| incomplete(DESCRIBE_GROUPS, "the waker's target group"))?;
                (Homes::One(waker), true)
            }
            _ => {
                let described = self.describe_wakers().await?;
                let all = described.len() == self.wakers.len() && described.iter().all(|(_, home)| home.is_some());
                let mut homes = BTreeMap::new();
                // Of two on one load balancer the one that is given first.
                for given in &self.wakers {
                    let found = described
                        .iter()
                        .find(|(waker, _)| waker.is_among(std::slice::from_ref(given)));
                    if let Some((waker, Some(home))) = found {
                        homes.entry(home.clone()).or_insert_with(|| waker.clone());
                    }
                }
                (Homes::Each(homes), all)
            }
        };
        if all {
            *self.homes.lock().unwrap_or_else(PoisonError::into_inner) = Some(homes.clone());
        }
        Ok(homes)
    }

    /// All wakers by ARN, with the load balancer that each serves. One call asks for ARNs or for names, never for both.
    async fn describe_wakers(&self) -> Result<Vec<(GroupId, Option<String>)>, Fault> {
        let (names, arns): (Vec<_>, Vec<_>) = self.wakers.iter().partition(|waker| waker.is_name());
        let mut found = Vec::new();
        for (names, arns) in [(names, Vec::new()), (Vec::new(), arns)] {
            let texts = |groups: Vec<&GroupId>| groups.into_iter().map(|group| group.0.clone()).collect::<Vec<_>>();
            let (names, arns) = (texts(names), texts(arns));
            if names.is_empty() && arns.is_empty() {
                continue;
            }
            let some = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
            let call = self.client.describe_target_groups();
            let call = call.set_names(some(names)).set_target_group_arns(some(arns));
            let answer = call.send().await.map_err(|error| fault(DESCRIBE_GROUPS, error))?;
            found.extend(answer.target_groups().iter().filter_map(|group| {
                let waker = GroupId(group.target_group_arn()?.to_owned());
                Some((waker, group.load_balancer_arns().first().cloned()))
            }));
        }
        Ok(found)
    }
}
