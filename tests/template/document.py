"""template.yaml with its functions worked out for given parameters, as CloudFormation would."""

import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "autostopping",
    "AWS::URLSuffix": "amazonaws.com",
}


class Loader(yaml.SafeLoader):
    """Short forms (`!Ref x`) become long ones (`{"Ref": x}`)."""


def short(loader, suffix, node):
    kind = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence,
            yaml.MappingNode: loader.construct_mapping}[type(node)]
    value = kind(node) if isinstance(node, yaml.ScalarNode) else kind(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short)


def load(path="template.yaml"):
    return yaml.load((ROOT / path).read_text(), Loader)


class Nothing:
    """AWS::NoValue."""


class Template:
    """The template with these parameters; those not given have their defaults. Resources stand for their own names."""

    def __init__(self, given, path="template.yaml"):
        self.document = load(path)
        declared = self.document["Parameters"]
        unknown = set(given) - set(declared)
        assert not unknown, unknown
        self.parameters = {name: given.get(name, spec.get("Default")) for name, spec in declared.items()}
        for name, spec in declared.items():
            if spec["Type"] == "CommaDelimitedList":
                self.parameters[name] = str(self.parameters[name]).split(",")

    def refused(self):
        """What validation says: each parameter that its pattern refuses, then each assertion that fails."""
        said = []
        for name, spec in self.document["Parameters"].items():
            values = self.parameters[name]
            for value in values if isinstance(values, list) else [values]:
                pattern, allowed = spec.get("AllowedPattern"), spec.get("AllowedValues")
                if (pattern and not re.fullmatch(pattern, str(value))) or (allowed and value not in allowed):
                    said.append(f"{name} = {value}: {spec.get('ConstraintDescription', allowed)}")
        for rule in self.document["Rules"].values():
            if "RuleCondition" in rule and not self.value(rule["RuleCondition"]):
                continue
            for assertion in rule["Assertions"]:
                if not self.value(assertion["Assert"]):
                    said.append(assertion["AssertDescription"])
        return said

    def value(self, node):
        if isinstance(node, list):
            values = [self.value(below) for below in node]
            return [value for value in values if value is not Nothing]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (key, below), = node.items()
            if key == "Ref":
                return self.reference(below)
            if key == "Condition" and isinstance(below, str):
                return self.value(self.document["Conditions"][below])
            if key.startswith("Fn::"):
                return getattr(self, key[4:].lower())(below)
        worked_out = {key: self.value(below) for key, below in node.items()}
        return {key: below for key, below in worked_out.items() if below is not Nothing}

    def reference(self, name):
        if name == "AWS::NoValue":
            return Nothing
        return PSEUDO.get(name) or self.parameters.get(name, name)

    def getatt(self, below):
        return ".".join(below)

    def sub(self, below):
        text, more = below if isinstance(below, list) else (below, {})
        more = {name: self.value(value) for name, value in more.items()}

        def known(found):
            name = found[1]
            return str(more[name] if name in more else self.reference(name))

        return re.sub(r"\$\{([^}]+)\}", known, text)

    def join(self, below):
        return below[0].join(str(value) for value in self.value(below[1]))

    def split(self, below):
        return self.value(below[1]).split(below[0])

    def equals(self, below):
        one, other = self.value(below)
        return str(one) == str(other)

    def eachmemberequals(self, below):
        values, wanted = self.value(below)
        return all(value == wanted for value in values)

    def __getattr__(self, name):
        boolean = {
            "not": lambda below: not self.value(below[0]),
            "and": lambda below: all(self.value(part) for part in below),
            "or": lambda below: any(self.value(part) for part in below),
            "if": lambda below: self.value(below[1 if self.value({"Condition": below[0]}) else 2]),
        }
        if name in boolean:
            return boolean[name]
        raise AttributeError(name)
