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

/// Red when such a line was an error, and when what had expired stayed.
#[test]
fn a_line_that_cannot_be_read_costs_no_other_and_no_start() {
    let (rule, place) = (RuleName("site".to_owned()), TempDir::new().unwrap());
    let later = Event {
        at: "2027-06-01T00:00:00Z".parse().unwrap(),
        ..event("much later")
    };
    run(async {
        let ledger = open(&place).unwrap();
        ledger.append(&rule, &[event("one")]).await.unwrap();
        ledger.append(&rule, &[event("two")]).await.unwrap();
    });
    let file = place.path().join("history/site.jsonl");
    let written = std::fs::read(&file).unwrap();
    let first = written.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // Wherever power failed in the first line, and whatever the disk had there.
    for end in 1..first {
        for rest in [&b"\n"[..], b"\0\xff\n"] {
            std::fs::write(&file, [&written[..end], rest, &written[first..]].concat()).unwrap();
            let ledger = open(&place).unwrap();
            let whole = usize::from(end == first - 1 && rest == b"\n");
            assert_eq!(run(ledger.history(&rule, 9)).unwrap().len(), 1 + whole, "{end}");
        }
    }
    std::fs::write(&file, &written).unwrap();
    run(async {
        open(&place).unwrap().append(&rule, &[later]).await.unwrap();
        assert_eq!(open(&place).unwrap().history(&rule, 9).await.unwrap().len(), 1);
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
}

/// Red when the part that was written stayed.
#[test]
fn what_cannot_be_added_whole_is_not_there_at_all() {
    let place = TempDir::new().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    folder.put("history", b"").unwrap();
    // As long as a file can be here, but for a few bytes: a hole, which takes no room.
    let file = std::fs::File::options()
        .write(true)
        .open(place.path().join("history"))
        .unwrap();
    let (mut least, mut most) = (0, i64::MAX.unsigned_abs());
    while least < most {
        let middle = least + (most - least).div_ceil(2);
        match file.set_len(middle) {
            Ok(()) => least = middle,
            Err(_) => most = middle - 1,
        }
    }
    let length = least - 10;
    file.set_len(length).unwrap();
    folder.append("history", &[b'x'; 100]).unwrap_err();
    assert_eq!(file.metadata().unwrap().len(), length);
    folder.append("history", &[b'x'; 10]).unwrap();
}

/// Red when the lease stayed: the rule waited for as long as the dead process would have had it.
#[test]
fn the_lease_of_a_process_that_died_is_free() {
    let (rule, place) = (RuleName("site".to_owned()), TempDir::new().unwrap());
    run(async {
        let ledger = open(&place).unwrap();
        let record = Record::new(rule.clone(), at(0));
        super::super::lease::acquire(&ledger, &record, "dead", at(0), at(40))
            .await
            .unwrap();
    });
    run(async {
        let ledger = open(&place).unwrap();
        let record = ledger.load(&rule).await.unwrap().unwrap();
        assert_eq!((record.version, &record.lease), (1, &None));
        super::super::lease::acquire(&ledger, &record, "alive", at(1), at(41))
            .await
            .unwrap();
    });
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
