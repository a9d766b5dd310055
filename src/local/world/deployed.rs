//! The function as Lambda's API tells of it: versions, aliases, who may invoke it. What answers invocations is
//! `local::lambda`, and it is always the code that is there now.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Failure, World};

/// What an alias may lead to and what a call without a qualifier means.
pub const LATEST: &str = "$LATEST";

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
    /// The digest of the code that was uploaded last.
    pub latest: String,
    /// The digests of published versions, the first at index 0.
    pub versions: Vec<String>,
    /// What each alias leads to.
    pub aliases: BTreeMap<String, String>,
    /// Statements of the resource policies, by qualifier; the empty one is the function's own.
    pub policies: BTreeMap<String, Vec<Value>>,
}

impl Deployed {
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

    /// `GetFunctionConfiguration`.
    pub fn function_configuration(&mut self, function: &str, qualifier: Option<&str>) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        let (version, code) = deployed.resolve(qualifier)?;
        Ok(json!({
            "FunctionName": deployed.name,
            "FunctionArn": qualifier.map_or_else(|| deployed.arn.clone(), |it| format!("{}:{it}", deployed.arn)),
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "Timeout": deployed.timeout,
            "MemorySize": 128,
            "CodeSha256": code,
            "Version": version,
            "State": deployed.state,
            "LastUpdateStatus": "Successful",
            "Environment": { "Variables": deployed.environment },
        }))
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
    pub fn publish_version(&mut self, function: &str) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        if deployed.versions.last() != Some(&deployed.latest) {
            deployed.versions.push(deployed.latest.clone());
        }
        let version = deployed.versions.len().to_string();
        self.function_configuration(function, Some(&version))
    }

    /// `GetAlias`.
    pub fn alias(&mut self, function: &str, alias: &str) -> Result<Value, Failure> {
        let deployed = self.deployed_mut(function)?;
        let arn = format!("{}:{alias}", deployed.arn);
        let version = deployed.aliases.get(alias);
        let version = version.ok_or_else(|| not_found(&format!("Alias not found: {arn}")))?;
        Ok(json!({ "AliasArn": arn, "Name": alias, "FunctionVersion": version }))
    }

    /// `UpdateAlias`.
    pub fn update_alias(&mut self, function: &str, alias: &str, version: &str) -> Result<Value, Failure> {
        self.alias(function, alias)?;
        let deployed = self.deployed_mut(function)?;
        deployed.resolve(Some(version))?;
        deployed.aliases.insert(alias.to_owned(), version.to_owned());
        self.alias(function, alias)
    }
}

fn not_found(message: &str) -> Failure {
    Failure::trouble(404, "ResourceNotFoundException", message)
}
