#!/usr/bin/env python3
"""What runs on a machine behind the proxy. Arguments: what to speak, and the port of loopback to do so at."""

import selectors
import socket
import sys


def echo(port):
    """Greets, as SSH servers do, and says everything again."""
    ready = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.sendall(b"hello\n")
                ready.register(client, selectors.EVENT_READ)
                continue
            try:
                said = key.fileobj.recv(65536)
                key.fileobj.sendall(said)
            except OSError:
                said = b""
            if not said:
                ready.unregister(key.fileobj)
                key.fileobj.close()


def websocket(port):
    """Says every message again in capitals."""
    from websockets.sync.server import serve

    def talk(client):
        for message in client:
            client.send(message.upper())

    with serve(talk, "127.0.0.1", port) as server:
        server.serve_forever()


def grpc(port):
    """A call in both directions: says every message again in capitals, and at the end how many there were."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def talk(messages, context):
        count = 0
        for message in messages:
            count += 1
            yield message.upper()
        context.set_trailing_metadata((("messages", str(count)),))

    class Echo(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.stream_stream_rpc_method_handler(talk) if call.method == "/test.Echo/Talk" else None

    server = grpc.server(ThreadPoolExecutor(8), handlers=[Echo()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def https(port):
    """Says the host it is asked for and how often it was asked for its health, which is bad for the first three times. The third
    argument is its certificate with its key."""
    import ssl
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    asked = 0

    class Site(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            nonlocal asked
            asked += self.path == "/health"
            body = f"{self.headers['Host']} {asked}".encode()
            self.send_response(503 if self.path == "/health" and asked <= 3 else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    server = ThreadingHTTPServer(("127.0.0.1", port), Site)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


{"echo": echo, "websocket": websocket, "grpc": grpc, "https": https}[sys.argv[1]](int(sys.argv[2]))
