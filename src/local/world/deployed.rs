//! The function as Lambda's API tells of it: versions, aliases, who may invoke it. What answers invocations is
//! `local::lambda`, with the code that [`World::code_behind`] names.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Failure, World};

/// What an alias may lead to and what a call without a qualifier means.
pub const LATEST: &str = "$LATEST";

/// How long an update of the code is `InProgress`; until then the code before it answers.
const UPDATE: Duration = Duration::from_millis(300);

/// A deployed function.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub name: String,
    /// Without a qualifier.
    pub arn: String,
    pub timeout: u64,
    pub environment: BTreeMap<String, String>,
    /// `Active`, or what the state is to be.
    pub state: String,
    /// The instruction set: `x86_64` or `arm64`.
    pub architecture: String,
    /// The digest of the code that was uploaded last.
    pub latest: String,
    /// The last update of the code.
    pub updated: Option<Updated>,
    /// The digests of published versions, the first at index 0.
    pub versions: Vec<String>,
    /// What each alias leads to.
    pub aliases: BTreeMap<String, String>,
    /// Statements of the resource policies, by qualifier; the empty one is the function's own.
    pub policies: BTreeMap<String, Vec<Value>>,
    /// How often the function or an alias of it was changed: what a `RevisionId` is made of. The empty alias is the function.
    pub revisions: BTreeMap<String, u64>,
}

/// An update of the code.
#[derive(Debug, Clone)]
pub struct Updated {
    /// When it is done.
    pub at: Timestamp,
    /// The digest of the code that answers until then.
    pub before: String,
}

/// What runs when the function is invoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `$LATEST` or a number.
    pub version: String,
    /// The digest of its code.
    pub code: String,
}

impl Deployed {
    fn updating(&self, now: Timestamp) -> Option<&Updated> {
        self.updated.as_ref().filter(|updated| now < updated.at)
    }

    /// Nothing else may be done to the code while it is updated.
    fn at_rest(&self, now: Timestamp) -> Result<(), Failure> {
        let message = format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {}",
            self.arn
        );
        match self.updating(now) {
            Some(_) => Err(Failure::trouble(409, "ResourceConflictException", message)),
            None => Ok(()),
        }
    }

    fn revision(&self, alias: &str) -> String {
        let number = self.revisions.get(alias).copied().unwrap_or_default();
        format!("{:08x}-0000-4000-8000-{number:012x}", alias.len())
    }

    /// Whether what is to be changed is what the caller has read.
    fn is_as_read(&self, alias: &str, request: &Value) -> Result<(), Failure> {
        let message = "The RevisionId provided does not match the latest RevisionId. Call the GetFunction/GetAlias API to \
                       retrieve the latest RevisionId";
        match request["RevisionId"].as_str() {
            Some(known) if known != self.revision(alias) => {
                Err(Failure::trouble(412, "PreconditionFailedException", message))
            }
            _ => Ok(()),
        }
    }

    fn changed(&mut self, alias: &str) {
        *self.revisions.entry(alias.to_owned()).or_default() += 1;
    }

    fn described(&self, now: Timestamp, qualifier: Option<&str>) -> Result<Value, Failure> {
        let (version, code) = self.resolve(qualifier)?;
        let mut configuration = json!({
            "FunctionName": self.name,
            "FunctionArn": qualifier.map_or_else(|| self.arn.clone(), |it| format!("{}:{it}", self.arn)),
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "PackageType": "Zip",
            "Architectures": [self.architecture],
            "Timeout": self.timeout,
            "MemorySize": 128,
            "CodeSha256": code,
            "Version": version,
            "State": self.state,
            "Environment": { "Variables": self.environment },
        });
        if version == LATEST {
            let status = if self.updating(now).is_some() {
                "InProgress"
            } else {
                "Successful"
            };
            configuration["LastUpdateStatus"] = Value::from(status);
            configuration["RevisionId"] = Value::from(self.revision(""));
        }
        Ok(configuration)
    }

    /// The version that a qualifier means, with the digest of its code.
    fn resolve(&self, qualifier: Option<&str>) -> Result<(String, String), Failure> {
        let version = match qualifier.unwrap_or(LATEST) {
            alias if self.aliases.contains_key(alias) => self.aliases[alias].clone(),
            version => version.to_owned(),
        };
        let code = match version.as_str() {
            LATEST => Some(&self.latest),
            number => number
                .parse::<usize>()
                .ok()
                .and_then(|number| self.versions.get(number.checked_sub(1)?)),
        };
        let missing = || not_found(&format!("Function not found: {}:{version}", self.arn));
        Ok((version.clone(), code.ok_or_else(missing)?.clone()))
    }
}

impl World {
    /// The function is deployed.
    pub fn deploy(&mut self, deployed: Deployed) {
        self.deployed = Some(deployed);
    }

    /// The deployed function by its name or ARN, or `ResourceNotFoundException`.
    pub fn deployed_mut(&mut self, function: &str) -> Result<&mut Deployed, Failure> {
        let found = self.deployed.as_mut();
        let found = found.filter(|deployed| deployed.name == function || deployed.arn == function);
        found.ok_or_else(|| not_found(&format!("Function not found: {function}")))
    }

    /// What runs behind a function's ARN with a qualifier, at this moment.
    pub fn code_behind(&mut self, now: Timestamp, function: &str, qualifier: Option<&str>) -> Result<Running, Failure> {
        let deployed = self.deployed_mut(function)?;
        let (version, mut code) = deployed.resolve(qualifier)?;
        if let (LATEST, Some(updated)) = (version.as_str(), deployed.updating(now)) {
            code.clone_from(&updated.before);
        }
        Ok(Running { version, code })
    }

    /// `GetFunctionConfiguration`.
    pub fn function_configuration(
        &mut self,
        now: Timestamp,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Value, Failure> {
        self.deployed_mut(function)?.described(now, qualifier)
    }

    /// `ListVersionsByFunction`.
    pub fn versions(&mut self, now: Timestamp, function: &str) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        let numbers = (1..=deployed.versions.len()).map(|number| number.to_string());
        let versions = std::iter::once(LATEST.to_owned()).chain(numbers);
        let versions: Result<Vec<Value>, Failure> = versions
            .map(|version| deployed.described(now, Some(&version)))
            .collect();
        Ok(json!({ "Versions": versions? }))
    }

    /// Whether `UpdateFunctionCode` may take this code, before anything is done with it.
    pub fn may_update_code(&mut self, now: Timestamp, function: &str, request: &Value) -> Result<(), Failure> {
        let deployed = self.deployed_mut(function)?;
        deployed.at_rest(now)?;
        deployed.is_as_read("", request)
    }

    /// `UpdateFunctionCode`, with the digest of the code.
    pub fn update_code(
        &mut self,
        now: Timestamp,
        function: &str,
        request: &Value,
        code: &str,
    ) -> Result<Value, Failure> {
        self.may_update_code(now, function, request)?;
        let deployed = self.deployed_mut(function)?;
        let architecture = request["Architectures"][0].as_str();
        if let Some(architecture) = architecture {
            architecture.clone_into(&mut deployed.architecture);
        }
        let before = std::mem::replace(&mut deployed.latest, code.to_owned());
        deployed.updated = Some(Updated {
            at: now + UPDATE,
            before,
        });
        deployed.changed("");
        deployed.described(now, None)
    }

    /// `GetPolicy`: the policy is a text of JSON.
    pub fn function_policy(&mut self, function: &str, qualifier: Option<&str>) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        deployed.resolve(qualifier)?;
        let statements = deployed.policies.get(qualifier.unwrap_or_default());
        let statements = statements.filter(|statements| !statements.is_empty());
        let statements = statements.ok_or_else(|| not_found("The resource you requested does not exist."))?;
        let policy = json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements });
        Ok(json!({ "Policy": policy.to_string(), "RevisionId": "1" }))
    }

    /// `AddPermission` for a service.
    pub fn add_permission(
        &mut self,
        function: &str,
        qualifier: Option<&str>,
        request: &Value,
    ) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        deployed.resolve(qualifier)?;
        let arn = qualifier.map_or_else(|| deployed.arn.clone(), |it| format!("{}:{it}", deployed.arn));
        let statement = json!({
            "Sid": request["StatementId"],
            "Effect": "Allow",
            "Principal": { "Service": request["Principal"] },
            "Action": request["Action"],
            "Resource": arn,
            "Condition": request.get("SourceArn").map(|source| json!({ "ArnLike": { "AWS:SourceArn": source } })),
        });
        let statements = deployed
            .policies
            .entry(qualifier.unwrap_or_default().to_owned())
            .or_default();
        if statements.iter().any(|other| other["Sid"] == statement["Sid"]) {
            let message = format!("The statement id ({}) provided already exists.", statement["Sid"]);
            return Err(Failure::trouble(409, "ResourceConflictException", message));
        }
        statements.push(statement.clone());
        Ok(json!({ "Statement": statement.to_string() }))
    }

    /// `RemovePermission`.
    pub fn remove_permission(&mut self, function: &str, qualifier: Option<&str>, id: &str) -> Result<(), Failure> {
        let deployed = self.deployed_mut(function)?;
        let statements = deployed
            .policies
            .entry(qualifier.unwrap_or_default().to_owned())
            .or_default();
        let before = statements.len();
        statements.retain(|statement| statement["Sid"] != id);
        if statements.len() == before {
            return Err(not_found(&format!("Statement {id} is not found in resource policy.")));
        }
        Ok(())
    }

    /// `PublishVersion`: the number of the version that has the code of `$LATEST`; no new one when the last has it already.
    pub fn publish_version(&mut self, now: Timestamp, function: &str, request: &Value) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        deployed.at_rest(now)?;
        deployed.is_as_read("", request)?;
        if request["CodeSha256"]
            .as_str()
            .is_some_and(|code| code != deployed.latest)
        {
            let message = format!(
                "CodeSHA256 ({}) is different from current CodeSHA256 in $LATEST ({}). Please try again with the \
                 CodeSHA256 in $LATEST.",
                request["CodeSha256"].as_str().unwrap_or_default(),
                deployed.latest
            );
            return Err(Failure::refused("InvalidParameterValueException", message));
        }
        if deployed.versions.last() != Some(&deployed.latest) {
            deployed.versions.push(deployed.latest.clone());
            deployed.changed("");
        }
        let version = deployed.versions.len().to_string();
        deployed.described(now, Some(&version))
    }

    /// `GetAlias`.
    pub fn alias(&mut self, function: &str, alias: &str) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        let arn = format!("{}:{alias}", deployed.arn);
        let version = deployed.aliases.get(alias);
        let version = version.ok_or_else(|| not_found(&format!("Cannot find alias arn: {arn}")))?;
        let revision = deployed.revision(alias);
        Ok(json!({ "AliasArn": arn, "Name": alias, "FunctionVersion": version, "RevisionId": revision }))
    }

    /// `UpdateAlias`.
    pub fn update_alias(&mut self, function: &str, alias: &str, request: &Value) -> Result<Value, Failure> {
        self.alias(function, alias)?;
        let deployed = self.deployed_mut(function)?;
        deployed.is_as_read(alias, request)?;
        let version = request["FunctionVersion"].as_str().unwrap_or_default();
        deployed.resolve(Some(version))?;
        deployed.aliases.insert(alias.to_owned(), version.to_owned());
        deployed.changed(alias);
        self.alias(function, alias)
    }
}

fn not_found(message: &str) -> Failure {
    Failure::trouble(404, "ResourceNotFoundException", message)
}
