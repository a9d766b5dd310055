#!/usr/bin/env python3
"""Parameters of proxy.yaml that contradict each other are refused with a sentence; what the machine runs at its first start is
a shell script without a mistake of syntax that installs nothing unchecked, and writes a configuration that the daemon reads."""

import re
import subprocess
import sys
import tomllib

from document import ROOT, Template

PROXY = {"VpcId": "vpc-0a", "SubnetId": "subnet-0a", "DaemonUrl": "s3://mirror/proxy.tar.gz", "DaemonSha256": "0" * 64}
OPEN = {**PROXY, "ClientCidr": "10.0.0.0/8"}
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:dev/tls-AbCdEf"
ZONE = {"HostedZoneId": "Z123", "DomainName": "dev.example.com"}

ACCEPTED = [
    OPEN,
    {**PROXY, "SecurityGroupIds": "sg-0a,sg-0b"},
    {**OPEN, **ZONE, "Placement": "public", "CertificateSecretArn": SECRET},
    {**OPEN, "CertificateSecretArn": SECRET, "KeySecretArn": SECRET.replace("tls", "key"), "System": "ubuntu"},
    {**OPEN, "Ports": "80,443,2222", "MirrorBucket": "mirror", "EnvoyUrl": "s3://mirror/envoy"},
]
REFUSED = [
    (PROXY, "Nobody could reach it"),
    ({**OPEN, "SecurityGroupIds": "sg-0a"}, "SecurityGroupIds contradicts ClientCidr"),
    ({**OPEN, "HostedZoneId": "Z123"}, "HostedZoneId needs DomainName"),
    ({**OPEN, "KeySecretArn": SECRET}, "KeySecretArn needs CertificateSecretArn"),
    ({**OPEN, "DaemonUrl": "http://example.com/proxy.tar.gz"}, "https://... or s3://"),
    ({**OPEN, "DaemonUrl": "https://example.com/x'; reboot; '"}, "https://... or s3://"),
    ({**OPEN, "AccountId": 'x" y = "'}, "letters, digits"),
    ({**OPEN, "EnvoySha256": ""}, "64 hexadecimal digits"),
]


def user_data(given):
    template = Template(given, "proxy.yaml")
    return template.value(template.document["Resources"]["Proxy"]["Properties"]["UserData"]["Fn::Base64"])


def script_is_right(given):
    script = user_data(given)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for fetched in re.findall(r"^fetch .*$", script, re.MULTILINE):
        assert re.fullmatch(r"fetch '(https|s3)://[^']+' [0-9a-f]{64} \S+", fetched), fetched
    config = tomllib.loads(re.search(r"config\.toml <<'END'\n(.*?)^END$", script, re.MULTILINE | re.DOTALL)[1])
    source = (ROOT / "src/config/proxy.rs").read_text()
    for keys, read in ((config, "KEYS"), (config.get("tls", [{}])[0], "TLS_KEYS")):
        known = re.search(rf"^const {read}: .*?= \[(.*?)\];", source, re.MULTILINE | re.DOTALL)[1]
        strangers = set(keys) - set(re.findall(r'"(\w+)"', known))
        assert not strangers, strangers
    assert config["portRange"] == "49152-49251"
    assert ("hostedZone" in config) == ("HostedZoneId" in given)
    assert ("tls" in config) == ("CertificateSecretArn" in given)


def main():
    for given in ACCEPTED:
        said = Template(given, "proxy.yaml").refused()
        assert not said, (given, said)
        script_is_right(given)
    for given, sentence in REFUSED:
        said = Template(given, "proxy.yaml").refused()
        assert any(sentence in one for one in said), (given, sentence, said)
    print(f"proxy.yaml: {len(ACCEPTED)} sets of parameters accepted, {len(REFUSED)} refused with a sentence")


sys.exit(main())
