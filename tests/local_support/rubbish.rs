//! A function that starts as it should and answers every event with `{}`. Compiled alone, by the test that uploads it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

fn main() {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").expect("Lambda says where its API is");
    loop {
        let (id, _event) = call(&api, "GET", "next", "");
        call(&api, "POST", &format!("{id}/response"), "{}");
    }
}

fn call(api: &str, method: &str, what: &str, body: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(api).expect("the runtime API listens");
    let path = format!("/2018-06-01/runtime/invocation/{what}");
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {api}\r\nContent-Length: {length}\r\n\r\n{body}").expect("it takes calls");
    let mut reader = BufReader::new(stream);
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("it answers");
        let Some((key, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match key.to_ascii_lowercase().as_str() {
            "lambda-runtime-aws-request-id" => id = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().expect("a number"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole answer");
    (id, body)
}
