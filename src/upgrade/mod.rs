//! Putting other code under the function, with a way back: what is seen, what was done, and the next step.
//!
//! The alias stands on `$LATEST`, so that what somebody uploads in the console is live at once. For an upgrade the running
//! code is published as a version and the alias put on it, so that the new code can be tried out while the old one serves.

pub mod package;
pub mod proof;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Report, RollBack, Target, UpgradeError, roll_back, upgrade};

/// The version that an upload changes. Source: AWS Lambda developer guide, "Manage Lambda function versions".
pub const LATEST: &str = "$LATEST";

/// What Lambda says of the function and its alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The version that the alias leads to.
    pub live: String,
    /// The revision of the alias.
    pub alias_revision: String,
    pub latest: Latest,
}

/// `$LATEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The digest of the zip that was uploaded last, as Lambda writes it: SHA-256 in Base64.
    pub code: String,
    pub revision: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    pub update: Update,
}

/// Where the last update of the code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    InProgress,
    Successful,
    /// With the reason.
    Failed(String),
}

/// What one run has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The version that served when `$LATEST` did not.
    pub kept: Option<String>,
    pub uploaded: bool,
    /// The code that is wanted has passed its test.
    pub proven: bool,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look again in a moment.
    Wait,
    /// Publish what runs, and put the alias on that version.
    Keep,
    /// Upload the zip.
    Upload,
    /// Try `$LATEST` out.
    Prove,
    /// Put the alias on `$LATEST`.
    GoLive,
    /// Put the alias on this version: code that is not proven has become live.
    GoBack(String),
    /// What is wanted is live and proven.
    Finished,
}

/// Why there is no next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    #[error("somebody else has uploaded other code meanwhile")]
    Overtaken,
    #[error("Lambda could not put the code in place: {0}")]
    NotInPlace(String),
}

/// The next step on the way to `wanted`, the digest of a zip. Running it again after any step goes on from there, and what
/// somebody else does meanwhile is seen at the next look.
pub fn next(seen: &Seen, done: &Done, wanted: &str) -> Result<Step, Stuck> {
    let is_live = seen.live == LATEST;
    let is_there = seen.latest.code == wanted;
    match (is_live, is_there, &seen.latest.update) {
        // Somebody put the alias on `$LATEST` right before the upload. While an update is in progress the code before it
        // answers, so there is time to go back before ours does.
        (true, true, _) if done.uploaded && !done.proven && done.kept.is_some() => {
            Ok(Step::GoBack(done.kept.clone().unwrap_or_default()))
        }
        (_, false, _) if done.uploaded || done.proven => Err(Stuck::Overtaken),
        (_, _, Update::InProgress) => Ok(Step::Wait),
        (true, _, Update::Failed(reason)) => Err(Stuck::NotInPlace(reason.clone())),
        (false, true, Update::Failed(reason)) if done.uploaded => Err(Stuck::NotInPlace(reason.clone())),
        (false, _, Update::Failed(_)) | (false, false, Update::Successful) => Ok(Step::Upload),
        (true, false, Update::Successful) => Ok(Step::Keep),
        (true, true, Update::Successful) if done.proven => Ok(Step::Finished),
        (false, true, Update::Successful) if done.proven => Ok(Step::GoLive),
        (_, true, Update::Successful) => Ok(Step::Prove),
    }
}

/// The version to go back to: the newest that has other code than `$LATEST`. `versions` are number and digest, the oldest
/// first.
pub fn before<'a>(versions: &'a [(String, String)], latest: &str) -> Option<&'a str> {
    let mut newest_first = versions.iter().rev();
    newest_first
        .find(|(version, code)| version != LATEST && code != latest)
        .map(|(version, _)| version.as_str())
}
