#!/usr/bin/env python3
"""A client: sends each line it is given as a message and prints the answer. Arguments: what to speak, where, and the host's name."""

import socket
import sys
from itertools import chain

place, host = sys.argv[2:]
lines = (line.rstrip("\n") for line in iter(sys.stdin.readline, ""))


def websocket():
    from websockets.sync.client import connect

    address, port = place.rsplit(":", 1)
    stream = socket.create_connection((address, int(port)))
    # No pings of its own: a quiet session is to be quiet.
    with connect(f"ws://{host}/socket", sock=stream, open_timeout=60, ping_interval=None) as session:
        print("open", flush=True)
        for line in lines:
            session.send(line)
            print(session.recv(), flush=True)


def grpc():
    import grpc

    with grpc.insecure_channel(place, options=[("grpc.default_authority", host), ("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.stream_stream("/test.Echo/Talk")(line.encode() for line in lines)
        for answer in call:
            print(answer.decode(), flush=True)
        trailers = dict(call.trailing_metadata())
        print(call.code().name, trailers.get("messages"), flush=True)


def envoy():
    """Asks for nothing; the host's name is its version."""
    import grpc

    # DeltaDiscoveryRequest.node, of which Node.user_agent_version.
    node = b"\x3a" + bytes([len(host)]) + host.encode()
    method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    with grpc.insecure_channel(place, options=[("grpc.default_authority", "proxy")]) as channel:
        for _ in channel.stream_stream(method)(chain([b"\x0a" + bytes([len(node)]) + node], lines)):
            pass


{"websocket": websocket, "grpc": grpc, "envoy": envoy}[sys.argv[1]]()
