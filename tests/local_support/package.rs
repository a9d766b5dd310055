//! Zips to upload, good ones and bad ones, made of the function under test and of small programs.

use std::{
    io::{Cursor, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::story;

/// The function under test without its symbols, which would make the zip too large to be uploaded.
static STRIPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    made(|out| {
        let mut command = Command::new("strip");
        command.arg("-o").arg(out).arg(story::bootstrap());
        command
    })
});

/// A program that starts as a function should, and answers everything with `{}`.
static RUBBISH: LazyLock<Vec<u8>> = LazyLock::new(|| {
    made(|out| {
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command
            .args(["--edition", "2024", "-o"])
            .arg(out)
            .arg(super::support("rubbish.rs"));
        command
    })
});

fn made(by: impl FnOnce(&Path) -> Command) -> Vec<u8> {
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("out");
    let status = by(&out).status().expect("the tool is there");
    assert!(status.success(), "{status}");
    std::fs::read(out).expect("the tool has made it")
}

/// A folder of zips.
pub struct Packages(TempDir);

impl Packages {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    /// The function under test; each name gives another digest.
    pub fn good(&self, name: &str) -> PathBuf {
        self.zip(
            name,
            &[("bootstrap", &STRIPPED, 0o755), ("NOTICE", name.as_bytes(), 0o644)],
        )
    }

    /// A program that ends at once, so that no invocation gets anywhere.
    pub fn that_dies(&self) -> PathBuf {
        self.bootstrap("dies", &program_that_dies(), 0o755)
    }

    /// A program that starts and answers rubbish.
    pub fn rubbish(&self) -> PathBuf {
        self.bootstrap("rubbish", &RUBBISH, 0o755)
    }

    pub fn bootstrap(&self, name: &str, program: &[u8], mode: u32) -> PathBuf {
        self.zip(name, &[("bootstrap", program, mode)])
    }

    pub fn zip(&self, name: &str, files: &[(&str, &[u8], u32)]) -> PathBuf {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (file, content, mode) in files {
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            zip.start_file(*file, stored.unix_permissions(*mode))
                .expect("it takes a file");
            zip.write_all(content).expect("it takes the content");
        }
        self.file(name, &zip.finish().expect("it is done").into_inner())
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(format!("{name}.zip"));
        std::fs::write(&path, content).expect("the disk has room");
        path
    }
}

/// A small program of this machine's architecture.
pub fn program_that_dies() -> Vec<u8> {
    std::fs::read("/bin/false").expect("every Linux has it")
}
