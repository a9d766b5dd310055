#!/usr/bin/env python3
"""Parameters of proxy.yaml that contradict each other are refused with a sentence; what the machine runs at its starts is
a shell script without a mistake of syntax that installs nothing unchecked, writes a configuration that the daemon reads, and
tells CloudFormation why it failed."""

import contextlib
import email
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import tomllib

import yaml
from document import ROOT, Template

PROXY = {"VpcId": "vpc-0a", "SubnetId": "subnet-0a", "DaemonUrl": "s3://mirror/proxy.tar.gz", "DaemonSha256": "0" * 64}
OPEN = {**PROXY, "ClientCidr": "10.0.0.0/8"}
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:dev/tls-AbCdEf"
MORE = f"{SECRET}2,{SECRET}3"
ZONE = {"HostedZoneId": "Z123", "DomainName": "dev.example.com"}

ACCEPTED = [
    OPEN,
    {**PROXY, "SecurityGroupIds": "sg-0a,sg-0b"},
    {**OPEN, **ZONE, "Placement": "public", "CertificateSecretArn": SECRET},
    {**OPEN, "CertificateSecretArn": SECRET, "KeySecretArn": SECRET.replace("tls", "key"), "System": "ubuntu"},
    {**OPEN, **ZONE, "CertificateSecretArn": SECRET, "MoreCertificateSecretArns": MORE, "RedirectToHttps": "true"},
    {**OPEN, "Ports": "80,443,2222", "MirrorBucket": "mirror", "EnvoyUrl": "s3://mirror/envoy"},
]
REFUSED = [
    (PROXY, "Nobody could reach it"),
    ({**OPEN, "SecurityGroupIds": "sg-0a"}, "SecurityGroupIds contradicts ClientCidr"),
    ({**OPEN, "HostedZoneId": "Z123"}, "HostedZoneId needs DomainName"),
    ({**OPEN, "KeySecretArn": SECRET}, "KeySecretArn needs CertificateSecretArn"),
    ({**OPEN, "MoreCertificateSecretArns": MORE}, "MoreCertificateSecretArns needs CertificateSecretArn"),
    ({**OPEN, "RedirectToHttps": "true"}, "RedirectToHttps needs CertificateSecretArn"),
    ({**OPEN, "DaemonUrl": "http://example.com/proxy.tar.gz"}, "https://... or s3://"),
    ({**OPEN, "DaemonUrl": "https://example.com/x'; reboot; '"}, "https://... or s3://"),
    ({**OPEN, "AccountId": 'x" y = "'}, "letters, digits"),
    ({**OPEN, "EnvoySha256": ""}, "64 hexadecimal digits"),
]


def of(given, name, *path):
    """What is written at a place of a resource, worked out."""
    template = Template(given, "proxy.yaml")
    node = template.document["Resources"][name]["Properties"]
    for key in path:
        node = node[key]
    return template.value(node)


def script_of(given):
    """The shell script in what cloud-init is given, which says too that it is to run at each start."""
    data = of(given, "Proxy", "UserData", "Fn::Base64")
    config, script = email.message_from_string(data).get_payload()
    assert yaml.safe_load(config.get_payload()) == {"cloud_final_modules": [["scripts-user", "always"]]}
    assert script.get_content_type() == "text/x-shellscript"
    return script.get_payload()


def role_is_narrow(given):
    """The named secrets and machines with the tag; what cannot be narrowed down only looks."""
    policies = of(given, "Role", "Policies")
    secrets = {value for key, value in given.items() if key.endswith("SecretArn")}
    secrets.update(given.get("MoreCertificateSecretArns", "").split(","))
    for one in (one for policy in policies for one in policy["PolicyDocument"]["Statement"]):
        actions = one["Action"] if isinstance(one["Action"], list) else [one["Action"]]
        assert not any("*" in action for action in actions), actions
        if one["Resource"] == "*":
            assert all(action.split(":")[1].startswith("Describe") or action in SHELL for action in actions), actions
        if any(re.search(":(Start|Stop)", action) for action in actions):
            assert one["Condition"] == {"StringEquals": {"aws:ResourceTag/autostopping:managed": "true"}}, one
        if actions == ["route53:ChangeResourceRecordSets"]:
            assert list(one["Condition"]["ForAllValues:StringLike"].values()) == [[f"*.{given['DomainName']}", given["DomainName"]]], one
        if actions == ["secretsmanager:GetSecretValue"]:
            assert secrets.issuperset(one["Resource"]), one


# What Session Manager's agent asks; AWS limits none of it to single machines.
SHELL = {"ssm:UpdateInstanceInformation"} | {f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")}
# In the adapters for the command line of load balancers alone.
NOT_THE_PROXYS = {"ec2:CreateTags", "ec2:DeleteTags", "ec2:DescribeVolumes"}
# Asked by AWS itself, and by the installation.
NOT_CALLED = {"kms:Decrypt", "kms:CreateGrant", "s3:GetObject", *SHELL}


def role_is_what_is_called():
    """Each operation that the proxy's adapters name is in the role, and nothing else is."""
    called = set()
    for file in ("compute/ec2.rs", "compute/ec2/account.rs", "compute/rds.rs", "aws/route53.rs", "aws/secrets.rs"):
        source = (ROOT / "src" / file).read_text()
        called.update(re.findall(r'"((?:ec2|rds|secretsmanager|route53):[A-Z]\w+)"', source))
        called.update(f"rds:{name}" for name in re.findall(r'"((?:Describe|Start|Stop)DB\w+)"', source))
    given = {**OPEN, **ZONE, "CertificateSecretArn": SECRET, "MoreCertificateSecretArns": MORE, "MirrorBucket": "mirror"}
    policies = of({**given, "SecretKeyArns": "arn:aws:kms:us-east-1:123456789012:key/a"}, "Role", "Policies")
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    lists = (one["Action"] if isinstance(one["Action"], list) else [one["Action"]] for one in statements)
    allowed = {action for actions in lists for action in actions}
    assert allowed - NOT_CALLED == called - NOT_THE_PROXYS, (allowed ^ called)


def further(script):
    """What the script adds to the configuration for each further certificate, by running that part of it."""
    loop = re.search(r"^for secret in .*?^done$", script, re.MULTILINE | re.DOTALL)[0]
    loop = loop.replace(" >>/etc/proxymanager/config.toml", "")
    return subprocess.run(["bash", "-eu"], input=loop, text=True, check=True, capture_output=True).stdout


def script_is_right(given):
    script = script_of(given)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for fetched in re.findall(r"^fetch .*$", script, re.MULTILINE):
        assert re.fullmatch(r"fetch '(https|s3)://[^']+' [0-9a-f]{64} \S+", fetched), fetched
    config = tomllib.loads(re.search(r"config\.toml <<'END'\n(.*?)^END$", script, re.MULTILINE | re.DOTALL)[1] + further(script))
    sources = [(config, "proxy.rs", "KEYS"), *((one, "proxy/tls.rs", "PLACES") for one in config.get("tls", []))]
    for keys, file, name in sources:
        source = (ROOT / "src/config" / file).read_text()
        known = re.search(rf"^const {name}: .*?= \[(.*?)\];", source, re.MULTILINE | re.DOTALL)[1]
        strangers = set(keys) - set(re.findall(r'"(\w+)"', known))
        assert not strangers, strangers
    assert config["portRange"] == "49152-49251"
    assert ("hostedZone" in config) == ("HostedZoneId" in given)
    more = [one for one in given.get("MoreCertificateSecretArns", "").split(",") if one]
    assert [one["secret"] for one in config.get("tls", [])[1:]] == more
    assert ("tls" in config) == ("CertificateSecretArn" in given)
    assert config["redirectToHTTPS"] == (given.get("RedirectToHttps") == "true")


@contextlib.contextmanager
def wait_condition():
    """The URL of a handle, and all that it is told."""
    told = []

    class Handle(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handle) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", told
        finally:
            server.shutdown()
            serving.join()


def told(given, steps, programs):
    """What CloudFormation is told when the script's definitions are followed by those of its lines that begin with `steps`, on a
    machine with these programs."""
    head, rest = re.split(r"^(?=fetch ')", script_of(given), maxsplit=1, flags=re.MULTILINE)
    lines = [line for line in rest.splitlines() if line.startswith(steps)]
    assert lines or not steps, steps
    with wait_condition() as (handle, told), tempfile.TemporaryDirectory() as machine:
        for name, text in programs.items():
            program = pathlib.Path(machine, name)
            program.write_text(f"#!/bin/bash\n{text}\n")
            program.chmod(0o755)
        script = "\n".join([head, *lines, ""]).replace("/var/", f"{machine}/").replace('"InstalledHandle"', f'"{handle}"')
        os.makedirs(f"{machine}/log")
        os.makedirs(f"{machine}/lib")
        pathlib.Path(machine, "script").write_text(script)
        env = {"PATH": f"{machine}:{os.environ['PATH']}", "TMPDIR": machine}
        done = subprocess.run(["bash", "script"], cwd=machine, env=env, text=True, capture_output=True)
        assert (done.returncode == 0) == (not told), (done, told)
        return told


def failure_is_told():
    """Once, with its last words, wherever in the script it is."""
    denied = {"aws": "echo 'fatal error: An error occurred (403)' >&2; exit 1"}
    another = {"aws": 'echo another >"${@: -1}"'}
    for programs, words in [(denied, "An error occurred (403)"), (another, "daemon.tar.gz: FAILED")]:
        [said] = told(OPEN, "fetch", programs)
        assert said["Status"] == "FAILURE" and words in said["Reason"], said
    # A service that does not come up: nobody else knows why.
    silent = {"curl": "echo 'curl: (22) error: 503' >&2; exit 22", "systemctl": "", "journalctl": r'printf "%0300d\n" 1; echo "says $6"'}
    [said] = told(OPEN, ("systemctl", "curl"), silent)
    words = re.fullmatch(r"line \d+: curl: \(22\) error: 503 0{250} says (\S+) 0{250} says (\S+) ", said["Reason"])
    assert words and words.groups() == ("_SYSTEMD_UNIT=proxymanager-envoy.service", "_SYSTEMD_UNIT=proxymanager.service"), said
    # That the address is not there yet is no failure.
    waits = {"curl": "[ -e slept ] && echo Address", "sleep": "touch slept"}
    assert told({**OPEN, "Placement": "public"}, (), waits) == []


def main():
    for given in ACCEPTED:
        said = Template(given, "proxy.yaml").refused()
        assert not said, (given, said)
        script_is_right(given)
        role_is_narrow(given)
    role_is_what_is_called()
    failure_is_told()
    for given, sentence in REFUSED:
        said = Template(given, "proxy.yaml").refused()
        assert any(sentence in one for one in said), (given, sentence, said)
    print(f"proxy.yaml: {len(ACCEPTED)} sets of parameters accepted, {len(REFUSED)} refused with a sentence")


sys.exit(main())
