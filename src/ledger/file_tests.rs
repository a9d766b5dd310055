use tempfile::TempDir;

use crate::domain::plan::EventKind;

use super::*;

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    crate::domain::time::after(start, Duration::from_secs(second.into()))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

fn open(folder: &TempDir) -> Result<InFolder, LedgerError> {
    InFolder::open(Arc::new(Folder::open(folder.path()).unwrap()))
}

fn event(why: &str) -> Event {
    Event {
        at: at(7),
        kind: EventKind::Woke,
        why: why.to_owned(),
        took: None,
    }
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let place = TempDir::new().unwrap();
    let rule = RuleName("team/site.v2".to_owned());
    let machine = ResourceId("i-1".to_owned());
    let record = Record::new(rule.clone(), at(0));
    run(async {
        let ledger = open(&place).unwrap();
        ledger.store(&record).await.unwrap();
        ledger.append(&rule, &[event("one"), event("two")]).await.unwrap();
        ledger
            .own(&rule, std::slice::from_ref(&machine), &[], &|_| true)
            .await
            .unwrap();
    });
    run(async {
        let ledger = open(&place).unwrap();
        let stored = ledger.load(&rule).await.unwrap().unwrap();
        assert_eq!(
            stored,
            Record {
                version: 1,
                ..record.clone()
            }
        );
        assert_eq!(
            ledger.store(&record).await,
            Err(LedgerError::Lost),
            "the fence outlives the process"
        );
        assert_eq!(ledger.history(&rule, 9).await.unwrap().len(), 2);
        ledger.append(&rule, &[event("one")]).await.unwrap();
        assert_eq!(ledger.history(&rule, 9).await.unwrap().len(), 2, "the same again");
        assert_eq!(ledger.claimants(&machine).await, Ok(vec![rule.clone()]));
    });
}

/// Red when the lock was not asked for.
#[test]
fn two_processes_never_share_a_folder() {
    let place = TempDir::new().unwrap();
    let first = Folder::open(place.path()).unwrap();
    let refused = Folder::open(place.path()).unwrap_err();
    assert!(
        refused.to_string().contains("in use by another proxymanager"),
        "{refused}"
    );
    drop(first);
    Folder::open(place.path()).unwrap();
}

/// Red with a `put` that writes in place.
#[test]
fn a_crash_at_any_byte_leaves_the_old_or_the_new() {
    let place = TempDir::new().unwrap();
    let (old, new) = (b"{\"generation\":1}".as_slice(), b"{\"generation\":22222}".as_slice());
    Folder::open(place.path()).unwrap().put("state", old).unwrap();
    // All that a `put` does before its one rename is to write beside the file.
    for end in 0..=new.len() {
        std::fs::write(place.path().join("state.unfinished"), &new[..end]).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert_eq!(folder.get("state").unwrap().as_deref(), Some(old), "{end}");
        assert_eq!(folder.list(".").unwrap(), ["./lock", "./state"]);
    }
    // A reader at any moment sees one of the two, whole.
    let folder = Folder::open(place.path()).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..200 {
                folder.put("state", if round % 2 == 0 { new } else { old }).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = std::fs::read(place.path().join("state")).unwrap();
            assert!(seen == old || seen == new, "{seen:?}");
        }
    });
}

/// Red when a torn line was not cut off: the next one was added to it.
#[test]
fn a_history_that_ends_anywhere_keeps_its_whole_lines_and_goes_on() {
    let rule = RuleName("site".to_owned());
    let written = {
        let place = TempDir::new().unwrap();
        run(open(&place).unwrap().append(&rule, &[event("one")])).unwrap();
        run(open(&place).unwrap().append(&rule, &[event("two")])).unwrap();
        std::fs::read(place.path().join("history/site.jsonl")).unwrap()
    };
    let first = written.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in 0..=written.len() {
        let place = TempDir::new().unwrap();
        std::fs::create_dir(place.path().join("history")).unwrap();
        std::fs::write(place.path().join("history/site.jsonl"), &written[..end]).unwrap();
        let whole = usize::from(end >= first) + usize::from(end == written.len());
        run(async {
            let ledger = open(&place).unwrap();
            assert_eq!(ledger.history(&rule, 9).await.unwrap().len(), whole, "{end}");
            ledger.append(&rule, &[event("three")]).await.unwrap();
        });
        let again = open(&place).unwrap();
        assert_eq!(run(again.history(&rule, 9)).unwrap().len(), whole + 1, "{end}");
    }
}

#[test]
fn what_is_not_ours_is_told_and_left_alone() {
    let place = TempDir::new().unwrap();
    std::fs::create_dir(place.path().join("records")).unwrap();
    std::fs::write(place.path().join("records/site.json"), "{\"version\":").unwrap();
    let told = open(&place).unwrap_err().to_string();
    assert!(told.starts_with("records/site.json cannot be read"), "{told}");
}

#[test]
fn names_that_no_file_can_have_differ_as_files_too() {
    let name = |text: &str| file_name(&RuleName(text.to_owned()));
    assert_eq!(name("site"), "site");
    assert_ne!(name("a/b"), name("a_b"));
    assert_ne!(name("a/b"), name("a.b"));
    assert!(name(&"x/".repeat(64)).len() < 200);
    assert!(!name("../../etc/passwd").contains('/') && !name("..").contains(".."));
}
