//! Programs that are talked to line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::LONG;

/// A client in the middle of its session; killed when dropped.
pub struct Session {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<String>,
}

impl Session {
    pub fn begin(mut command: Command) -> Session {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, from) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut lines = out.lines().map_while(Result::ok);
            lines.all(|line| tell.send(line).is_ok())
        });
        let to = child.stdin.take();
        Session { child, to, from }
    }

    /// The next line it prints.
    pub fn line(&mut self) -> String {
        match self.from.recv_timeout(LONG) {
            Ok(line) => line,
            Err(error) => panic!("no line ({error}); {}", self.complaint()),
        }
    }

    fn complaint(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut text);
        text
    }

    /// Tells it a line, and reads the next one.
    pub fn say(&mut self, line: &str) -> String {
        let to = self.to.as_mut().expect("it has not been ended");
        writeln!(to, "{line}").unwrap_or_else(|error| panic!("{error}"));
        self.line()
    }

    /// Ends what it is told; it ends well and what it says until then is returned.
    pub fn end(mut self) -> String {
        drop(self.to.take());
        let mut rest = Vec::new();
        loop {
            match self.from.recv_timeout(LONG) {
                Ok(line) => rest.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}; {}", self.complaint()),
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.complaint());
        rest.join("\n")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything a program says until it ends well.
pub fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
