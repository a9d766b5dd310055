//! Taking the steps: looks, does the next thing, looks again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::package::Package;
use super::proof::{self, Answered};
use super::{Done, LATEST, Seen, Step, Stuck, before, next};
use crate::deployed::Lambda;
use crate::domain::fault::{Fault, FaultKind};

/// Between two looks at an update that is in progress.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked: an update takes seconds, in a bad hour minutes.
const LOOKS: u32 = 1000;
/// How often somebody else may be faster.
const CONFLICTS: u32 = 5;

/// The function behind a waker target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The function's ARN, without its alias.
    pub function: String,
    pub alias: String,
    /// The target group that a trial's health check names.
    pub group: String,
}

/// An upgrade that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The version that the code says it has.
    pub version: String,
    /// The digest of the zip.
    pub code: String,
    /// The published version to go back to, if there is one.
    pub before: Option<String>,
}

/// A roll-back that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBack {
    /// Where the alias stands.
    pub live: String,
    /// Where it stood.
    pub from: String,
    /// What the self-check of the version finds.
    pub warning: Option<String>,
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("it is for {package}, the function runs on {function}. Nothing was changed")]
    Architecture { package: &'static str, function: String },
    #[error("the code does not pass its test: {0}")]
    Unproven(String),
    #[error(transparent)]
    Stuck(#[from] Stuck),
    #[error("there is no published version with other code to go back to")]
    NothingBefore,
    #[error("there is no version {wanted}. Allowed: {known}")]
    NoSuchVersion { wanted: String, known: String },
    #[error(
        "version {version} has another environment than what is live, in {}: a version keeps the one it was published with. \
         Nothing was changed; `--to {version}` goes back to it all the same", keys.join(", ")
    )]
    OtherEnvironment { version: String, keys: Vec<String> },
    #[error("Lambda is not done with the update yet")]
    Unfinished,
    #[error("{0}")]
    Fault(#[from] Fault),
}

/// Makes the code of a package live, step by step; `tell` hears of each. What was interrupted goes on where it was.
///
/// # Errors
/// [`UpgradeError`]; then the code that is live is the code that was, unless somebody else has changed that.
pub async fn upgrade(
    lambda: &Lambda,
    target: &Target,
    package: &Package,
    tell: &mut dyn FnMut(String),
) -> Result<Report, UpgradeError> {
    let Target { function, alias, .. } = target;
    let mut done = Done::default();
    let mut version = String::new();
    let mut conflicts = 0;
    let mut failed: Option<(Step, Fault)> = None;
    for _ in 0..LOOKS {
        let seen = lambda.code(function, alias).await?;
        if seen.latest.architecture != package.architecture {
            let function = seen.latest.architecture;
            let package = package.architecture;
            return Err(UpgradeError::Architecture { package, function });
        }
        if seen.live != LATEST {
            done.kept = Some(seen.live.clone());
        }
        let step = next(&seen, &done, &package.digest)?;
        // A call that failed is judged by what is seen after it: its answer may have been lost, or somebody was faster.
        if let Some((before, fault)) = failed.take()
            && (before, fault.kind == FaultKind::Conflict) == (step.clone(), false)
        {
            return Err(fault.into());
        }
        let result = match &step {
            Step::Wait => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Step::Keep => keep(lambda, target, &seen, tell).await,
            Step::Upload => {
                tell(format!("uploading {} bytes to {LATEST}", package.zip.len()));
                let uploaded = lambda.upload(function, &seen.latest, package).await;
                done.uploaded |= uploaded.is_ok();
                uploaded
            }
            Step::Prove => match prove(lambda, target, LATEST).await {
                Ok(found) => {
                    version = found;
                    done.proven = true;
                    tell(format!("{LATEST} passes its test: version {version}"));
                    Ok(())
                }
                Err(UpgradeError::Fault(fault)) => Err(fault),
                Err(error) => return Err(error),
            },
            Step::GoLive => {
                tell(format!("{alias} -> {LATEST}"));
                lambda.point(function, alias, &seen, LATEST).await
            }
            Step::GoBack(kept) => {
                tell(format!("{alias} -> {kept}, until the new code is tested"));
                lambda.point(function, alias, &seen, kept).await
            }
            Step::Finished => {
                let versions = lambda.versions(function).await?;
                return Ok(Report {
                    version,
                    code: package.digest.clone(),
                    before: before(&versions, &package.digest).map(str::to_owned),
                });
            }
        };
        if let Err(fault) = result {
            conflicts += 1;
            if conflicts > CONFLICTS {
                return Err(fault.into());
            }
            failed = Some((step, fault));
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(UpgradeError::Unfinished)
}

async fn keep(lambda: &Lambda, target: &Target, seen: &Seen, tell: &mut dyn FnMut(String)) -> Result<(), Fault> {
    let Target { function, alias, .. } = target;
    let version = lambda.publish(function, &seen.latest).await?;
    tell(format!("the running code is version {version}"));
    tell(format!("{alias} -> {version}"));
    lambda.point(function, alias, seen, &version).await
}

/// Puts the alias back on a published version: the one that `to` names, or the newest with other code than `$LATEST`. An
/// alias that stands on a published version already is left there, so that running it again goes back no further.
///
/// # Errors
/// [`UpgradeError`]; then nothing was changed. A version that does not answer a health check is refused; one whose self-check
/// finds something is not, as that may be just what somebody flees from.
pub async fn roll_back(lambda: &Lambda, target: &Target, to: Option<&str>) -> Result<RollBack, UpgradeError> {
    let Target { function, alias, .. } = target;
    let seen = lambda.code(function, alias).await?;
    let versions = lambda.versions(function).await?;
    let wanted = match to {
        Some(wanted) => {
            let numbers = versions
                .iter()
                .map(|(version, _)| version.as_str())
                .filter(|version| *version != LATEST);
            let known: Vec<&str> = numbers.collect();
            if !known.contains(&wanted) {
                return Err(UpgradeError::NoSuchVersion {
                    wanted: wanted.to_owned(),
                    known: if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    },
                });
            }
            wanted
        }
        None if seen.live != LATEST => seen.live.as_str(),
        None => before(&versions, &seen.latest.code).ok_or(UpgradeError::NothingBefore)?,
    };
    let mut report = RollBack {
        live: wanted.to_owned(),
        from: seen.live.clone(),
        warning: None,
    };
    if seen.live == wanted {
        return Ok(report);
    }
    let environment =
        async |version: &str| Ok::<_, Fault>(lambda.read(&format!("{function}:{version}")).await?.environment);
    let (then, now) = (environment(wanted).await?, environment(&seen.live).await?);
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let keys = keys.into_iter().filter(|key| then.get(*key) != now.get(*key));
    let keys: Vec<String> = keys.cloned().collect();
    if to.is_none() && !keys.is_empty() {
        let version = wanted.to_owned();
        return Err(UpgradeError::OtherEnvironment { version, keys });
    }
    health(lambda, target, wanted).await?;
    report.warning = sound(lambda, target, wanted).await?.err();
    lambda.point(function, alias, &seen, wanted).await?;
    Ok(report)
}

/// Tries a version out, and returns what it says its version is.
async fn prove(lambda: &Lambda, target: &Target, version: &str) -> Result<String, UpgradeError> {
    health(lambda, target, version).await?;
    sound(lambda, target, version).await?.map_err(UpgradeError::Unproven)
}

async fn health(lambda: &Lambda, target: &Target, version: &str) -> Result<(), UpgradeError> {
    let event = proof::health_check(&target.group);
    let answered: Answered = lambda.invoke(&target.function, version, &event).await?;
    proof::is_healthy(&answered).map_err(UpgradeError::Unproven)
}

async fn sound(lambda: &Lambda, target: &Target, version: &str) -> Result<Result<String, String>, UpgradeError> {
    let event = crate::http::event::self_check();
    Ok(proof::is_sound(
        &lambda.invoke(&target.function, version, &event).await?,
    ))
}
