//! What was uploaded: each zip unpacked into a folder of its own, which goes when the cloud does.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::Cursor,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::ZipArchive;

use crate::local::process::Processes;

/// The largest zip of a direct upload. Source: AWS Lambda developer guide, "Lambda quotas".
const LARGEST: usize = 50 * 1024 * 1024;

/// Why a zip is refused.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("Could not unzip uploaded file. Please check your file, then try to upload again.")]
    NoZip,
    #[error("Request must be smaller than 69905067 bytes for the UpdateFunctionCode operation")]
    TooLarge,
    #[error("the local cloud cannot keep the code: {0}")]
    Disk(#[from] std::io::Error),
}

/// The codes by their digests.
#[derive(Debug)]
pub struct Packages {
    codes: Mutex<BTreeMap<String, Code>>,
}

#[derive(Debug)]
struct Code {
    bootstrap: PathBuf,
    /// None for the code that the function is deployed with, which is not ours to delete.
    _folder: Option<TempDir>,
}

impl Packages {
    /// With the code that the function is deployed with.
    pub fn new(bootstrap: &Path) -> Self {
        let code = Code {
            bootstrap: bootstrap.to_owned(),
            _folder: None,
        };
        Self {
            codes: Mutex::new(BTreeMap::from([(digest_of_file(bootstrap), code)])),
        }
    }

    /// Unpacks a zip, unless that was done before, and returns its `CodeSha256`.
    pub fn take(&self, zip: &[u8], processes: &Processes) -> Result<String, NotTaken> {
        if zip.len() > LARGEST {
            return Err(NotTaken::TooLarge);
        }
        let digest = STANDARD.encode(Sha256::digest(zip));
        let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(|_| NotTaken::NoZip)?;
        let folder = tempfile::Builder::new().prefix("proxymanager-code-").tempdir()?;
        // A program that is started while a file is being written has it open too for a moment, and no system starts a file
        // that somebody may write.
        let unpacked = processes.while_none_starts(|| archive.extract(folder.path()));
        unpacked.map_err(|_| NotTaken::NoZip)?;
        let code = Code {
            bootstrap: folder.path().join("bootstrap"),
            _folder: Some(folder),
        };
        self.codes().entry(digest.clone()).or_insert(code);
        Ok(digest)
    }

    /// Where the code with this digest begins.
    pub fn bootstrap(&self, digest: &str) -> PathBuf {
        self.codes()
            .get(digest)
            .map(|code| code.bootstrap.clone())
            .unwrap_or_default()
    }

    fn codes(&self) -> MutexGuard<'_, BTreeMap<String, Code>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another file has another digest. The file itself is not read: built for debugging it is large.
pub fn digest_of_file(bootstrap: &Path) -> String {
    let meta = bootstrap.metadata();
    let known = meta.as_ref().map(|meta| (meta.len(), meta.modified().ok()));
    let mut hasher = DefaultHasher::new();
    (bootstrap, known.ok()).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
