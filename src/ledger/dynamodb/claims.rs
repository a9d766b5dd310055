//! Which rules claim a machine.
//!
//! A claimant writes its claim first and then reads all of them: of two who do so at once, at least the later reader sees
//! both, and every one that looks again does. A claim of a rule that is gone is deleted only as it was read (by its nonce),
//! so that the claim of a rule that comes back in that moment stays.

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;

use crate::aws::fault;
use crate::domain::rule::{ResourceId, RuleName};
use crate::ledger::LedgerError;

use super::DynamoDb;
use super::item::{keys, read_text, text};

/// Another's claim on a machine.
struct Claim {
    rule: RuleName,
    nonce: String,
}

impl DynamoDb {
    pub(super) async fn claim_machines(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        for machine in no_longer.iter().filter(|machine| !machines.contains(machine)) {
            self.delete_claim(machine, rule, None).await?;
        }
        let mut others = Vec::with_capacity(machines.len());
        for machine in machines {
            self.put_claim(machine, rule).await?;
            let mut other = None;
            for claim in self
                .claims(machine)
                .await?
                .into_iter()
                .filter(|claim| claim.rule != *rule)
            {
                if !known(&claim.rule) {
                    self.delete_claim(machine, &claim.rule, Some(&claim.nonce)).await?;
                } else if other.is_none() {
                    other = Some(claim.rule);
                }
            }
            others.push(other);
        }
        Ok(others)
    }

    pub(super) async fn claimants_of(&self, machine: &ResourceId) -> Result<Vec<RuleName>, LedgerError> {
        let claims = self.claims(machine).await?;
        Ok(claims.into_iter().map(|claim| claim.rule).collect())
    }

    async fn put_claim(&self, machine: &ResourceId, rule: &RuleName) -> Result<(), LedgerError> {
        let (pk, sk) = key(machine, rule);
        let request = self.client.put_item().table_name(&self.table);
        request
            .set_item(Some(keys(&pk, &sk)))
            .item("rule", text(&rule.0))
            .item("nonce", text(format!("{:016x}", fastrand::u64(..))))
            .send()
            .await
            .map_err(|error| fault("dynamodb:PutItem", error))?;
        Ok(())
    }

    /// All claims on a machine, in the order of the rules' names. One page: 1 MB is some thousand claims.
    async fn claims(&self, machine: &ResourceId) -> Result<Vec<Claim>, LedgerError> {
        let pk = format!("machine#{machine}");
        let request = self.client.query().table_name(&self.table).consistent_read(true);
        let answer = request
            .key_condition_expression("pk = :pk AND begins_with(sk, :claim)")
            .expression_attribute_values(":pk", text(&pk))
            .expression_attribute_values(":claim", text("claim#"))
            .send()
            .await
            .map_err(|error| fault("dynamodb:Query", error))?;
        let items = answer.items.unwrap_or_default();
        let claim = |item| {
            let rule = RuleName(read_text(item, &pk, "rule")?.to_owned());
            let nonce = read_text(item, &pk, "nonce")?.to_owned();
            Ok(Claim { rule, nonce })
        };
        items.iter().map(claim).collect()
    }

    /// With a nonce: only if it is still the claim with that nonce.
    async fn delete_claim(
        &self,
        machine: &ResourceId,
        rule: &RuleName,
        nonce: Option<&str>,
    ) -> Result<(), LedgerError> {
        let (pk, sk) = key(machine, rule);
        let mut request = self.client.delete_item().table_name(&self.table);
        request = request.set_key(Some(keys(&pk, &sk)));
        if let Some(nonce) = nonce {
            request = request
                .condition_expression("nonce = :nonce")
                .expression_attribute_values(":nonce", text(nonce));
        }
        let lost = |error: &DeleteItemError| error.is_conditional_check_failed_exception();
        match request.send().await {
            Err(error) if !error.as_service_error().is_some_and(lost) => {
                Err(fault("dynamodb:DeleteItem", error).into())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn key(machine: &ResourceId, rule: &RuleName) -> (String, String) {
    (format!("machine#{machine}"), format!("claim#{rule}"))
}
