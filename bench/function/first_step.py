"""The same first step in Python: the clients of AWS, and then the first poll of the runtime API."""

import os
import urllib.request

import boto3

clients = [boto3.client(name) for name in ("ec2", "elbv2", "dynamodb", "cloudwatch")]
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
urllib.request.urlopen(f"http://{api}/2018-06-01/runtime/invocation/next").read()
