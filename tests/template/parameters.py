#!/usr/bin/env python3
"""Parameters of template.yaml that contradict each other are refused with a sentence, and the usual ones are not; the
environment it gives to the function is the one that the function reads."""

import re
import sys

from document import ROOT, Template

LISTENER = "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2"
MADE = {"CreateLoadBalancer": "true", "SubnetIds": "subnet-0a,subnet-0b"}
OWN_GROUP = {"VpcId": "vpc-0a", "ClientCidr": "10.0.0.0/8"}
TOPIC = "arn:aws:sns:us-east-1:123456789012:oncall"

ACCEPTED = [
    {"ListenerArns": LISTENER},
    {"ListenerArns": f"{LISTENER},{LISTENER[:-1]}3"},
    {"ListenerArns": LISTENER, "DomainName": "autostopping.example.com"},
    {**MADE, "SecurityGroupIds": "sg-0a"},
    {**MADE, **OWN_GROUP},
    {**MADE, **OWN_GROUP, "HostedZoneId": "Z123", "DomainName": "autostopping.example.com"},
    {"ListenerArns": LISTENER, "CustomMetrics": "rules", "DashboardAndAlarms": "true", "AlarmTopicArn": TOPIC},
]
REFUSED = [
    ({}, "Nothing to watch"),
    ({**MADE, **OWN_GROUP, "ListenerArns": LISTENER}, "contradict each other"),
    ({"CreateLoadBalancer": "true", **OWN_GROUP}, "needs SubnetIds"),
    (MADE, "needs SecurityGroupIds, or VpcId and ClientCidr"),
    ({**MADE, "VpcId": "vpc-0a"}, "needs SecurityGroupIds, or VpcId and ClientCidr"),
    ({**MADE, **OWN_GROUP, "SecurityGroupIds": "sg-0a"}, "SecurityGroupIds contradicts VpcId and ClientCidr"),
    ({"ListenerArns": LISTENER, "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/a"},
     "are for CreateLoadBalancer=true"),
    ({"ListenerArns": LISTENER, "SubnetIds": "subnet-0a"}, "are for CreateLoadBalancer=true"),
    ({"ListenerArns": LISTENER, "HostedZoneId": "Z123", "DomainName": "a.example.com"}, "are for CreateLoadBalancer=true"),
    ({**MADE, **OWN_GROUP, "HostedZoneId": "Z123"}, "HostedZoneId needs DomainName"),
    ({"ListenerArns": LISTENER, "DashboardAndAlarms": "true"}, "needs CustomMetrics"),
    ({"ListenerArns": LISTENER, "AlarmTopicArn": TOPIC}, "needs DashboardAndAlarms=true"),
    ({"ListenerArns": LISTENER.replace("/app/", "/net/")}, "ARNs of listeners"),
    ({"ListenerArns": LISTENER, "HoldLimit": "51s"}, "1s to 50s"),
    ({"ListenerArns": LISTENER, "Name": "Autostopping"}, "1 to 24 lower-case letters"),
]


def environment_is_read():
    source = (ROOT / "src/config/environment.rs").read_text()
    read = set(re.findall(r'^pub const \w+: &str = "(AUTOSTOPPING_\w+)";', source, re.MULTILINE))
    template = Template({"ListenerArns": LISTENER})
    variables = template.value(template.document["Resources"]["Waker"]["Properties"]["Environment"]["Variables"])
    assert set(variables) == read, set(variables) ^ read
    assert variables["AUTOSTOPPING_LISTENERS"] == LISTENER
    group = template.value(template.document["Resources"]["WakerTargetGroup"]["Properties"]["Name"])
    assert variables["AUTOSTOPPING_WAKER"] == group


def names_fit():
    longest = Template({"Name": "n" * 24, "ListenerArns": LISTENER})
    assert not longest.refused()
    group = longest.value(longest.document["Resources"]["WakerTargetGroup"]["Properties"]["Name"])
    # Source: Elastic Load Balancing API reference, CreateTargetGroup.
    assert len(group) <= 32, group


def main():
    for given in ACCEPTED:
        said = Template(given).refused()
        assert not said, (given, said)
    for given, sentence in REFUSED:
        said = Template(given).refused()
        assert any(sentence in one for one in said), (given, sentence, said)
    environment_is_read()
    names_fit()
    print(f"{len(ACCEPTED)} sets of parameters accepted, {len(REFUSED)} refused with a sentence")


sys.exit(main())
