#!/usr/bin/env python3
"""A site for tests: answers with what it saw, and misbehaves when the path asks for it."""

import hashlib
import json
import os
import socketserver
import struct
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen = []
released = threading.Event()
state = {"health": 200}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body):
        body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("User-Agent") == "ELB-HealthChecker/2.0":
            return self.answer(state["health"], "{}")
        seen.append(self.path)
        if self.path.startswith("/health/"):
            state["health"] = int(self.path.rsplit("/", 1)[1])
        if self.path == "/close":
            self.close_connection = True
            return None
        if self.path == "/reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if self.path == "/release":
            released.set()
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            released.wait(30)
            return self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", self.headers["Upgrade"])
            self.end_headers()
            self.close_connection = True
            while data := self.connection.recv(1024):
                self.connection.sendall(data.upper())
            return None
        headers = {key.lower(): value for key, value in self.headers.items()}
        digest = hashlib.sha256(body).hexdigest()
        told = {"path": self.path, "headers": headers, "seen": seen, "body": len(body), "sha256": digest}
        return self.answer(200, json.dumps(told))

    do_POST = do_GET


socketserver.TCPServer.request_queue_size = 4096
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
