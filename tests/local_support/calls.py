#!/usr/bin/env python3
"""One table of AWS calls, made with the real SDK against an endpoint; prints one JSON object: call -> what came of it.

Usage: calls.py ENDPOINT moto|local START. The load of i-measured is known from START on (seconds since 1970, a multiple
of five minutes). Names and ids differ between clouds, so they are replaced by what they stand for."""

import datetime
import json
import re
import sys

import boto3
import botocore.model
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

moto = sys.argv[2] == "moto"
options = dict(endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x",
               config=Config(retries={"total_max_attempts": 1}))
ec2 = boto3.client("ec2", **options)
elb = boto3.client("elbv2", **options)
ddb = boto3.client("dynamodb", **options)
cloudwatch = in_json = boto3.client("cloudwatch", **options)
if not moto:
    # moto has no CBOR, which is what the SDKs of compiled languages speak.
    botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS = ("smithy-rpc-v2-cbor",)
    cloudwatch = boto3.client("cloudwatch", **options)
results, known = {}, {}


def clean(value):
    if isinstance(value, dict):
        return {key: clean(below) for key, below in sorted(value.items()) if key not in ("ResponseMetadata", "ConsumedCapacity")}
    if isinstance(value, list):
        return [clean(below) for below in value]
    if isinstance(value, str):
        for real, name in sorted(known.items(), key=lambda pair: -len(pair[0])):
            value = value.replace(real, f"<{name}>")
        return value
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def note(name, call, keep=lambda answer: answer):
    assert name not in results, name
    try:
        answer = call()
    except ClientError as error:
        results[name] = "error " + error.response["Error"]["Code"]
        return None
    except ResponseParserError:
        results[name] = "crash"
        return None
    results[name] = clean(keep(answer))
    return answer


def moment(second):
    return datetime.datetime.fromtimestamp(start + second, datetime.timezone.utc)


def pick(kind, *keys):
    return lambda answer: [{key: row.get(key) for key in keys} for row in answer[kind]]


if moto:
    image = ec2.describe_images()["Images"][0]["ImageId"]
    machine = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    instance = machine["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[instance])
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
    elb.create_load_balancer(Name="local", Subnets=subnets, Scheme="internet-facing")
    balancer = elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    first = elb.create_target_group(Name="autostopping-waker", TargetType="lambda")["TargetGroups"][0]["TargetGroupArn"]
    listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80,
                                   DefaultActions=[{"Type": "forward", "TargetGroupArn": first}])
    listener = listener["Listeners"][0]["ListenerArn"]
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    types = [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}]
    ddb.create_table(TableName="autostopping", KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST")
else:
    instance = ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]
    balancer = elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["ListenerArn"]
    first = elb.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    vpc = "vpc-1"
known.update({instance: "instance", balancer: "balancer", listener: "listener", first: "waker", vpc: "vpc"})

# Target groups
shape = ("TargetGroupName", "Protocol", "Port", "TargetType", "HealthCheckPath", "HealthCheckEnabled", "Matcher",
         "HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds", "HealthyThresholdCount", "UnhealthyThresholdCount")
group = note("CreateTargetGroup", lambda: elb.create_target_group(
    Name="a", Protocol="HTTP", Port=80, VpcId=vpc, HealthCheckPath="/h", Matcher={"HttpCode": "200-399"},
    HealthCheckIntervalSeconds=10, HealthyThresholdCount=2), pick("TargetGroups", *shape))
a = group["TargetGroups"][0]["TargetGroupArn"]
b = elb.create_target_group(Name="b", Protocol="HTTP", Port=81, VpcId=vpc)["TargetGroups"][0]["TargetGroupArn"]
known.update({a: "a", b: "b"})
note("CreateTargetGroup defaults", lambda: elb.describe_target_groups(Names=["b"]), pick("TargetGroups", *shape))
note("CreateTargetGroup taken", lambda: elb.create_target_group(Name="a", Protocol="HTTP", Port=99, VpcId=vpc))
note("DescribeTargetGroups by ARN", lambda: elb.describe_target_groups(TargetGroupArns=[a]), pick("TargetGroups", "TargetGroupArn"))
note("DescribeTargetGroups unknown name", lambda: elb.describe_target_groups(Names=["zzz"]))
note("DescribeTargetGroups unknown ARN", lambda: elb.describe_target_groups(TargetGroupArns=[a[:-4] + "0000"]))
note("DescribeTargetHealth empty", lambda: elb.describe_target_health(TargetGroupArn=a))
note("DescribeTargetHealth unknown", lambda: elb.describe_target_health(TargetGroupArn=a[:-4] + "0000"))
note("RegisterTargets unknown group", lambda: elb.register_targets(TargetGroupArn=a[:-4] + "0000", Targets=[{"Id": instance}]))
check = ("HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds", "HealthyThresholdCount", "HealthCheckPath", "Matcher")
note("ModifyTargetGroup", lambda: elb.modify_target_group(
    TargetGroupArn=b, HealthCheckIntervalSeconds=10, HealthCheckTimeoutSeconds=4, HealthyThresholdCount=3, HealthCheckPath="/up",
    Matcher={"HttpCode": "200-399"}), pick("TargetGroups", *check))
note("ModifyTargetGroup unknown", lambda: elb.modify_target_group(TargetGroupArn=a[:-4] + "0000", HealthyThresholdCount=3))
note("DescribeAccountLimits", lambda: elb.describe_account_limits(), lambda answer: [
    limit["Max"] for limit in answer["Limits"] if limit["Name"] == "rules-per-application-load-balancer"])

# Load balancers and listeners
note("DescribeLoadBalancers", lambda: elb.describe_load_balancers(Names=["local"]),
     pick("LoadBalancers", "LoadBalancerArn", "LoadBalancerName", "Type", "Scheme", "State"))
note("DescribeLoadBalancers unknown", lambda: elb.describe_load_balancers(Names=["zzz"]))
note("DescribeListeners", lambda: elb.describe_listeners(LoadBalancerArn=balancer),
     lambda answer: [[row["ListenerArn"], row["LoadBalancerArn"], row["Protocol"], row["DefaultActions"][0]["Type"]]
                     for row in answer["Listeners"]])
note("DescribeListeners unknown", lambda: elb.describe_listeners(ListenerArns=[listener[:-4] + "0000"]))

# Rules


def rule_shape(answer):
    """Without the second forms in which AWS repeats hosts, paths and a single target group, and moto does not."""
    rows = pick("Rules", "Priority", "Conditions", "Actions", "IsDefault")(answer)
    for row in rows:
        for condition in row["Conditions"]:
            if any(key.endswith("Config") for key in condition):
                condition.pop("Values", None)
        for action in row["Actions"]:
            if "TargetGroupArn" in action:
                action.pop("ForwardConfig", None)
    return rows


def host(*names):
    return [{"Field": "host-header", "HostHeaderConfig": {"Values": list(names)}}]


def forward(arn):
    return {"Type": "forward", "TargetGroupArn": arn, "Order": 1}


def weighted(order):
    groups = [{"TargetGroupArn": a, "Weight": 3}, {"TargetGroupArn": b, "Weight": 0}]
    sticky = {"Enabled": True, "DurationSeconds": 60}
    return {"Type": "forward", "Order": order, "ForwardConfig": {"TargetGroups": groups, "TargetGroupStickinessConfig": sticky}}


oidc = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {
    "Issuer": "https://id.test", "AuthorizationEndpoint": "https://id.test/a", "TokenEndpoint": "https://id.test/t",
    "UserInfoEndpoint": "https://id.test/u", "ClientId": "c", "ClientSecret": "s", "SessionCookieName": "k",
    "Scope": "openid email", "SessionTimeout": 600, "OnUnauthenticatedRequest": "authenticate",
    "AuthenticationRequestExtraParams": {"prompt": "login"}}}
cognito = {"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": {
    "UserPoolArn": "arn:aws:cognito-idp:us-east-1:123456789012:userpool/x", "UserPoolClientId": "c", "UserPoolDomain": "d",
    "SessionCookieName": "k", "Scope": "openid", "SessionTimeout": 600, "OnUnauthenticatedRequest": "deny"}}


def actions_without_secret(answer):
    rows = rule_shape(answer)
    for row in rows:
        for action in row["Actions"]:
            action.get("AuthenticateOidcConfig", {}).pop("ClientSecret", None)
    return rows


def create(name, priority, conditions, actions, keep=rule_shape, **more):
    answer = note(f"CreateRule {name}", lambda: elb.create_rule(
        ListenerArn=listener, Priority=priority, Conditions=conditions, Actions=actions, **more), keep)
    if answer:
        known[answer["Rules"][0]["RuleArn"]] = name
        return answer["Rules"][0]["RuleArn"]


plain = create("plain", 30, host("a.test", "*.a.test"), [forward(a)], Tags=[{"Key": "k", "Value": "v"}])
create("priority taken", 30, host("b.test"), [forward(a)])
create("unknown group", 31, host("b.test"), [forward(a[:-4] + "0000")])
create("unknown field", 32, [{"Field": "nonsense", "Values": ["x"]}], [forward(a)])
note("CreateRule unknown listener", lambda: elb.create_rule(
    ListenerArn=listener[:-4] + "0000", Priority=33, Conditions=host("b.test"), Actions=[forward(a)]))
create("weighted", 20, [
    {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/x/*"]}},
    {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["one"]}},
    {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "v", "Value": "1"}]}},
    {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
    {"Field": "source-ip", "SourceIpConfig": {"Values": ["192.0.2.0/24"]}}], [weighted(1)])
create("oidc", 40, host("c.test"), [oidc, weighted(2)], actions_without_secret)
create("cognito", 50, host("d.test"), [cognito, dict(forward(a), Order=2)])
create("fixed", 60, host("e.test"), [{"Type": "fixed-response", "Order": 1, "FixedResponseConfig": {
    "StatusCode": "404", "ContentType": "text/plain", "MessageBody": "no <b> & \u00fc"}}])
create("redirect", 70, host("f.test"), [{"Type": "redirect", "Order": 1, "RedirectConfig": {
    "Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}", "StatusCode": "HTTP_301"}}])
note("DescribeRules", lambda: elb.describe_rules(ListenerArn=listener),
     lambda answer: sorted((row["Priority"], row["IsDefault"]) for row in answer["Rules"]))
note("DescribeRules by ARN", lambda: elb.describe_rules(RuleArns=[plain]), rule_shape)
note("DescribeRules unknown ARN", lambda: elb.describe_rules(RuleArns=[plain[:-4] + "0000"]))
note("DescribeRules unknown listener", lambda: elb.describe_rules(ListenerArn=listener[:-4] + "0000"))
pages = elb.get_paginator("describe_rules").paginate(ListenerArn=listener, PaginationConfig={"PageSize": 3})
results["DescribeRules by pages"] = [len(page["Rules"]) for page in pages]
note("ModifyRule actions", lambda: elb.modify_rule(RuleArn=plain, Actions=[weighted(1)]), rule_shape)
note("ModifyRule conditions", lambda: elb.modify_rule(RuleArn=plain, Conditions=host("z.test")), rule_shape)
note("ModifyRule unknown", lambda: elb.modify_rule(RuleArn=plain[:-4] + "0000", Actions=[forward(a)]))
default = [row["RuleArn"] for row in elb.describe_rules(ListenerArn=listener)["Rules"] if row["IsDefault"]][0]
note("DeleteRule default", lambda: elb.delete_rule(RuleArn=default))
note("DeleteTargetGroup in use", lambda: elb.delete_target_group(TargetGroupArn=a))
note("DescribeTargetGroups of balancer", lambda: elb.describe_target_groups(LoadBalancerArn=balancer),
     lambda answer: sorted(row["TargetGroupName"] for row in answer["TargetGroups"]))

# Tags
note("DescribeTags", lambda: elb.describe_tags(ResourceArns=[plain, a]))
note("AddTags", lambda: elb.add_tags(ResourceArns=[plain, a], Tags=[{"Key": "n", "Value": "1 _.:/=+-@"}]))
note("RemoveTags", lambda: elb.remove_tags(ResourceArns=[plain], TagKeys=["k"]))
note("DescribeTags after", lambda: elb.describe_tags(ResourceArns=[plain, a]))
note("DescribeTags unknown", lambda: elb.describe_tags(ResourceArns=[plain[:-4] + "0000"]))
note("DeleteRule", lambda: elb.delete_rule(RuleArn=plain))
note("DescribeRules of deleted", lambda: elb.describe_rules(RuleArns=[plain]))

# Instances


def machines(answer):
    rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
    return [{"id": row["InstanceId"], "state": row["State"], "tags": [tag for tag in row.get("Tags", []) if tag["Key"] != "Name"],
             "transition": re.sub(r"\d", "0", row["StateTransitionReason"]).replace("UTC", "GMT"),
             "reason": row.get("StateReason")} for row in rows]


note("DescribeInstances stopped", lambda: ec2.describe_instances(InstanceIds=[instance]), machines)
note("CreateTags", lambda: ec2.create_tags(Resources=[instance], Tags=[{"Key": "autostopping:managed", "Value": "true"}]))
for name, filter_, values in [("tag", "tag:autostopping:managed", ["true"]), ("other tag", "tag:autostopping:managed", ["no"]),
                              ("id", "instance-id", [instance]), ("other id", "instance-id", ["i-0"]),
                              ("state", "instance-state-name", ["stopped", "running"]), ("key", "tag-key", ["autostopping:*"])]:
    note(f"DescribeInstances by {name}", lambda: ec2.describe_instances(Filters=[{"Name": filter_, "Values": values}]),
         lambda answer: [row["id"] for row in machines(answer)])
note("DeleteTags", lambda: ec2.delete_tags(Resources=[instance], Tags=[{"Key": "autostopping:managed"}]))
note("DescribeInstances untagged", lambda: ec2.describe_instances(InstanceIds=[instance]), machines)
note("DescribeVolumes", lambda: ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}]),
     lambda answer: [[row["Encrypted"], row["Attachments"][0]["InstanceId"]] for row in answer["Volumes"]])
note("DescribeVolumes of nobody", lambda: ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ["i-0"]}]),
     lambda answer: answer["Volumes"])
note("DescribeInstances unknown", lambda: ec2.describe_instances(InstanceIds=["i-00000000000000000"]))
note("StartInstances unknown", lambda: ec2.start_instances(InstanceIds=["i-00000000000000000"]))
note("StopInstances stopped", lambda: ec2.stop_instances(InstanceIds=[instance]),
     lambda answer: [row["PreviousState"] for row in answer["StoppingInstances"]])
note("StartInstances", lambda: ec2.start_instances(InstanceIds=[instance]), lambda answer: answer["StartingInstances"])

# The table
number, text = (lambda value: {"N": str(value)}), (lambda value: {"S": value})


def put(name, item, **more):
    note(f"PutItem {name}", lambda: ddb.put_item(TableName="autostopping", Item=item, **more))


def item(pk, sk, version, **more):
    return {"pk": text(pk), "sk": text(sk), "version": number(version), **more}


once = dict(ConditionExpression="attribute_not_exists(pk) OR version = :v")
put("first", item("r", "state", 1, list={"L": [text("x"), {"BOOL": True}, {"NULL": True}]}, map={"M": {"a": number(1)}}),
    ExpressionAttributeValues={":v": number(0)}, **once)
put("conflict", item("r", "state", 2), ExpressionAttributeValues={":v": number(0)}, **once)
put("second", item("r", "state", 2), ExpressionAttributeValues={":v": number(1)}, ReturnValues="ALL_OLD", **once)
put("without key", {"pk": text("r")})
put("bad condition", item("r", "x", 1), ConditionExpression="version ==")
key = {"pk": text("r"), "sk": text("state")}
note("GetItem", lambda: ddb.get_item(TableName="autostopping", Key=key, ConsistentRead=True))
note("GetItem absent", lambda: ddb.get_item(TableName="autostopping", Key={"pk": text("r"), "sk": text("none")}))
note("GetItem unknown table", lambda: ddb.get_item(TableName="zzz", Key=key))
note("UpdateItem", lambda: ddb.update_item(
    TableName="autostopping", Key=key, UpdateExpression="SET #v = #v + :one, who = :w REMOVE gone", ReturnValues="ALL_NEW",
    ExpressionAttributeNames={"#v": "version"}, ExpressionAttributeValues={":one": number(1), ":w": text("me")}))
note("UpdateItem new", lambda: ddb.update_item(
    TableName="autostopping", Key={"pk": text("r"), "sk": text("new")}, UpdateExpression="SET n = if_not_exists(n, :one)",
    ExpressionAttributeValues={":one": number(1)}, ReturnValues="ALL_NEW"))
counter = dict(TableName="autostopping", Key=dict(key, sk={"S": "counter"}), UpdateExpression="ADD n :one SET who = :w",
               ReturnValues="UPDATED_NEW")
# Of an item that the update makes moto answers the key too, which AWS does not.
ddb.update_item(ExpressionAttributeValues={":one": number(1), ":w": text("a")}, **counter)
note("UpdateItem counts", lambda: ddb.update_item(ExpressionAttributeValues={":one": number(1), ":w": text("b")}, **counter))
note("UpdateItem conflict", lambda: ddb.update_item(
    TableName="autostopping", Key=key, UpdateExpression="SET who = :w", ConditionExpression="version < :w",
    ExpressionAttributeValues={":w": number(1)}))
for index in range(5):
    ddb.put_item(TableName="autostopping", Item=item("e", f"2026-01-0{index + 1}", index))


def query(name, condition, **more):
    values = {":p": text("e"), **more.pop("values", {})}
    note(f"Query {name}", lambda: ddb.query(TableName="autostopping", KeyConditionExpression=condition,
                                            ExpressionAttributeValues=values, **more))


query("all", "pk = :p")
query("range", "pk = :p AND sk BETWEEN :a AND :b", values={":a": text("2026-01-02"), ":b": text("2026-01-03")})
query("prefix", "pk = :p AND begins_with(sk, :a)", values={":a": text("2026-01-0")}, Select="COUNT")
query("newest", "pk = :p", ScanIndexForward=False, Limit=2)
query("next", "pk = :p AND sk > :a", values={":a": text("2026-01-01")}, Limit=2,
      ExclusiveStartKey={"pk": text("e"), "sk": text("2026-01-03")})
query("filter", "pk = :p", values={":n": number(3)}, FilterExpression="version >= :n")
query("none", "pk = :p", values={":p": text("zzz")})
note("BatchGetItem", lambda: ddb.batch_get_item(RequestItems={"autostopping": {"Keys": [
    {"pk": text("e"), "sk": text("2026-01-01")}, {"pk": text("e"), "sk": text("none")}], "ConsistentRead": True}}),
    lambda answer: answer["Responses"])
note("DeleteItem conflict", lambda: ddb.delete_item(
    TableName="autostopping", Key=key, ConditionExpression="version = :v", ExpressionAttributeValues={":v": number(99)}))
note("DeleteItem", lambda: ddb.delete_item(TableName="autostopping", Key=key, ReturnValues="ALL_OLD"))
note("DeleteItem absent", lambda: ddb.delete_item(TableName="autostopping", Key=key))
note("DescribeTable", lambda: ddb.describe_table(TableName="autostopping"),
     lambda answer: [answer["Table"]["TableStatus"], answer["Table"]["KeySchema"]])

start = int(sys.argv[3])
if moto:
    # What the local cloud has measured: two samples in each five minutes.
    cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=[
        {"MetricName": "NetworkIn", "Dimensions": [{"Name": "InstanceId", "Value": "i-measured"}],
         "Timestamp": moment(300 * period + 60), "Value": value}
        for period in (0, 1, 3) for value in (12000, 88000 + period)])


def asked(identity="q0", metric="NetworkIn", instance="i-measured", stat="Sum", period=300, **more):
    dimensions = [{"Name": "InstanceId", "Value": instance}]
    metric = {"Namespace": "AWS/EC2", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": identity, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


def data(name, *queries, begin=0, end=1800, client=cloudwatch, **more):
    note(f"GetMetricData {name}", lambda: client.get_metric_data(
        MetricDataQueries=queries, StartTime=moment(begin), EndTime=moment(end), **more),
        lambda answer: answer["MetricDataResults"])


data("newest first", asked())
data("in JSON", asked(), client=in_json)
data("refused in JSON", asked(), end=0, client=in_json)
data("oldest first", asked(), ScanBy="TimestampAscending")
data("statistics", *(asked(f"q{n}", stat=stat) for n, stat in
                     enumerate(("Sum", "Average", "Minimum", "Maximum", "SampleCount"))))
data("end is left out", asked(), end=300)
data("from within", asked(), begin=300)
data("longer periods", asked(period=600))
data("labelled", asked(Label="bytes"))
data("nobody", asked(instance="i-nobody"))
data("nothing", asked(metric="Nonsense"))
data("some and none", asked(), asked("q1", instance="i-nobody"))
data("backwards", asked(), begin=600, end=0)
data("no time", asked(), end=0)
note("GetMetricData without a metric", lambda: cloudwatch.get_metric_data(
    MetricDataQueries=[{"Id": "q0"}], StartTime=moment(0), EndTime=moment(300)))
print(json.dumps(results))
