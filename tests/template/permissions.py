#!/usr/bin/env python3
"""Judges every call that the function made in the tests by the role in template.yaml, and every action of the role by
those calls: nothing may be missing, nothing may be idle.

Usage: permissions.py FOLDER, with the files that `proxymanager::local::api::record` wrote.
"""

import fnmatch
import json
import pathlib
import sys

from document import PSEUDO, Template

# In the role for a reason that no call of the function shows.
NOT_CALLED = {
    "logs:CreateLogStream": "Lambda itself writes the log",
    "logs:PutLogEvents": "Lambda itself writes the log",
    "kms:CreateGrant": "EC2 asks for it while it starts a machine with encrypted volumes",
}
POOL = "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_a"
KEY = "arn:aws:kms:us-east-1:123456789012:key/a"


class Unknown(Exception):
    """What a condition asks for was not recorded."""


def as_list(value):
    return value if isinstance(value, list) else [value]


def statements(environment):
    listeners = environment["AUTOSTOPPING_LISTENERS"]
    _, partition, _, region, account, _ = listeners.split(",")[0].split(":", 5)
    PSEUDO.update({"AWS::Partition": partition, "AWS::Region": region, "AWS::AccountId": account})
    template = Template({"ListenerArns": listeners, "UserPoolArns": POOL, "VolumeKeyArns": KEY})
    assert not template.refused(), template.refused()
    policies = template.value(template.document["Resources"]["Role"]["Properties"]["Policies"])
    found = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    for one in found:
        assert not any("*" in action for action in as_list(one["Action"])), "actions are named one by one"
    return found


def needed(call, environment):
    """The permissions that a call needs: action, resource, context. Source: Service Authorization Reference."""
    action = f"{call['service']}:{call['call']}"
    params, tags = call["params"], call["tags"]
    arn = f"arn:{PSEUDO['AWS::Partition']}:{{}}:{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}:{{}}"

    def tagged(resource):
        return {"tags": None if tags is None else tags.get(resource)}

    if action in ("ec2:StartInstances", "ec2:StopInstances"):
        for instance in as_list(params["InstanceId"]):
            yield action, arn.format("ec2", f"instance/{instance}"), tagged(instance)
    elif action == "elasticloadbalancing:CreateRule":
        yield action, params["ListenerArn"], {}
        if params.get("Tags"):
            made = params["ListenerArn"].replace(":listener/", ":listener-rule/") + "/0123456789abcdef"
            keys = [tag["Key"] for tag in params["Tags"]]
            yield ("elasticloadbalancing:AddTags", made,
                   {"elasticloadbalancing:CreateAction": "CreateRule", "aws:TagKeys": keys, "tags": {}})
    elif action in ("elasticloadbalancing:ModifyRule", "elasticloadbalancing:DeleteRule"):
        yield action, params["RuleArn"], tagged(params["RuleArn"])
    elif call["service"] == "dynamodb":
        for table in as_list(params["TableName"]):
            ours = environment["AUTOSTOPPING_LEDGER"] == f"dynamodb:{table}"
            yield action, "Ledger.Arn" if ours else arn.format("dynamodb", f"table/{table}"), {}
    else:
        yield action, "*", {}
    # Source: Application Load Balancers user guide, "Prepare to use Amazon Cognito".
    if "authenticate-cognito" in params.get("Actions", []):
        yield "cognito-idp:DescribeUserPoolClient", POOL, {}


def holds(condition, context):
    """Whether all of a statement's conditions hold; raises Unknown when that was not recorded."""
    for operator, keys in condition.items():
        for key, wanted in keys.items():
            if key.startswith("aws:ResourceTag/"):
                if context.get("tags") is None:
                    raise Unknown
                found = context["tags"].get(key.split("/", 1)[1])
            else:
                found = context.get(key)
            wanted = as_list(wanted)
            if not {
                "StringEquals": lambda: found in wanted,
                "StringNotEquals": lambda: found not in wanted,
                "Null": lambda: (found is None) == (wanted == ["true"]),
                "ForAnyValue:StringNotEquals": lambda: any(value not in wanted for value in found or []),
            }[operator]():
                return False
    return True


def applies(statement, action, resource, context, unknown):
    if action not in as_list(statement["Action"]):
        return False
    if not any(fnmatch.fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"])):
        return False
    try:
        return holds(statement.get("Condition", {}), context)
    except Unknown:
        return unknown


def allowed(policy, action, resource, context):
    def any_of(effect, unknown):
        return any(applies(one, action, resource, context, unknown) for one in policy if one["Effect"] == effect)

    return any_of("Allow", True) and not any_of("Deny", False)


def main():
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.jsonl"))
    if not files:
        sys.exit(f"no calls were recorded in {sys.argv[1]}: run the tests first (make test)")
    used, refused, calls = set(), {}, 0
    for file in files:
        head, *lines = [json.loads(line) for line in file.read_text().splitlines()]
        if not lines:
            # With an environment that cannot be used the function calls nothing.
            continue
        environment = head["environment"]
        policy = statements(environment)
        for call in lines:
            calls += 1
            for action, resource, context in needed(call, environment):
                used.add(action)
                if not allowed(policy, action, resource, context):
                    refused.setdefault(action, (resource, context, call))
    role = {action for one in policy if one["Effect"] == "Allow" for action in as_list(one["Action"])}
    idle = role - used - set(NOT_CALLED)
    for action, (resource, context, call) in sorted(refused.items()):
        print(f"the role does not allow {action} on {resource} with {context}: {json.dumps(call)}")
    for action in sorted(idle):
        print(f"the role allows {action}, which no test made the function call")
    for action in sorted(set(NOT_CALLED) - role):
        print(f"{action} is not in the role any more")
    if refused or idle or set(NOT_CALLED) - role:
        sys.exit(1)
    print(f"{calls} different calls of {len(files)} functions are allowed, and {len(role)} actions are needed:")
    for action in sorted(role):
        print(f"  {action:<50}{NOT_CALLED.get(action, 'called')}")


main()
