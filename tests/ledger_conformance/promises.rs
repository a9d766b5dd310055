//! The promises of the port.

use super::*;

pub fn a_record_comes_back_as_it_was_written(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        let mut record = record("site");
        assert_eq!(ledger.load(&record.rule).await, Ok(None));
        assert_eq!(ledger.store(&record).await, Ok(1));
        record.version = 1;
        assert_eq!(ledger.load(&record.rule).await, Ok(Some(record.clone())));
        record.wanted_by = "192.0.2.1 \u{1F40C} \"quoted\"\n".to_owned();
        record.last_request = Some("2026-01-01T00:00:00.123456789Z".parse().unwrap());
        assert_eq!(ledger.store(&record).await, Ok(2));
        record.version = 2;
        assert_eq!(ledger.load(&record.rule).await, Ok(Some(record)));
        assert_eq!(ledger.load(&name("sit")).await, Ok(None));
    });
}

pub fn of_two_writers_the_second_has_lost(shared: &impl Shared) {
    run(async {
        let (one, other) = (shared.open(), shared.open());
        let first = record("site");
        assert_eq!(one.store(&first).await, Ok(1));
        // Neither may make an item that is there, nor write over what it has not seen.
        assert_eq!(other.store(&first).await, Err(LedgerError::Lost));
        let seen = other.load(&first.rule).await.unwrap().unwrap();
        let write = |who: &str| Record {
            wanted_by: who.to_owned(),
            ..seen.clone()
        };
        assert_eq!(one.store(&write("one")).await, Ok(2));
        assert_eq!(other.store(&write("other")).await, Err(LedgerError::Lost));
        assert_eq!(
            one.store(&write("one")).await,
            Err(LedgerError::Lost),
            "nor the same twice"
        );
        assert_eq!(one.load(&first.rule).await.unwrap().unwrap().wanted_by, "one");
    });
}

pub fn of_many_writers_at_once_one_wins(shared: &impl Shared) {
    for version in 0..3 {
        let results = at_once(shared, 8, async |number, ledger| {
            let record = Record {
                version,
                wanted_by: number.to_string(),
                ..record("site")
            };
            ledger.store(&record).await
        });
        let winners: Vec<_> = (0..8).filter(|number| results[*number].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = results.iter().filter(|result| **result == Err(LedgerError::Lost));
        assert_eq!(lost.count(), 7);
        let stored = run(shared.open().load(&name("site"))).unwrap().unwrap();
        assert_eq!(
            (stored.version, stored.wanted_by),
            (version + 1, winners[0].to_string())
        );
    }
}

pub fn a_lease_has_one_owner_at_a_time(shared: &impl Shared) {
    run(async {
        let ledger = &shared.open();
        let fresh = record("site");
        let mine = lease::acquire(ledger, &fresh, "me", at(0), at(30)).await.unwrap();
        assert_eq!(mine.version, 1);
        assert_eq!(ledger.load(&fresh.rule).await, Ok(Some(mine.clone())));
        // Whoever read before has lost by the version, whoever reads now by the lease.
        let lost = Err(LedgerError::Lost);
        assert_eq!(lease::acquire(ledger, &fresh, "you", at(0), at(30)).await, lost);
        assert_eq!(lease::acquire(ledger, &mine, "you", at(29), at(60)).await, lost);
        assert_eq!(lease::release(ledger, &mine, "you").await, lost);
        assert_eq!(
            ledger.load(&fresh.rule).await,
            Ok(Some(mine.clone())),
            "nothing was written"
        );
        let longer = lease::acquire(ledger, &mine, "me", at(10), at(40)).await.unwrap();
        assert_eq!(lease::acquire(ledger, &longer, "you", at(39), at(60)).await, lost);
        // It ends by time, and the one who had it is fenced off from then on.
        let yours = lease::acquire(ledger, &longer, "you", at(40), at(70)).await.unwrap();
        assert_eq!(ledger.store(&longer).await, Err(LedgerError::Lost));
        assert_eq!(lease::release(ledger, &longer, "me").await, lost);
        // It ends by being given back, with what was learnt meanwhile.
        let learnt = Record {
            wanted_by: "you".to_owned(),
            ..yours
        };
        let free = lease::release(ledger, &learnt, "you").await.unwrap();
        assert_eq!((free.lease.clone(), free.wanted_by.as_str()), (None, "you"));
        assert_eq!(ledger.load(&fresh.rule).await, Ok(Some(free.clone())));
        assert!(lease::acquire(ledger, &free, "me", at(41), at(70)).await.is_ok());
    });
}

pub fn of_many_who_want_a_lease_one_gets_it(shared: &impl Shared) {
    let results = at_once(shared, 8, async |number, ledger| {
        let owner = format!("owner-{number}");
        let read = ledger.load(&name("site")).await.unwrap();
        let read = read.unwrap_or_else(|| record("site"));
        lease::acquire(&ledger, &read, &owner, at(0), at(30)).await.is_ok()
    });
    assert_eq!(results.iter().filter(|got| **got).count(), 1, "{results:?}");
}

pub fn one_of_many_claims_the_table(shared: &impl Shared) {
    let claims = |now: u32, until: u32| {
        let results = at_once(shared, 12, async |number, ledger| {
            ledger.claim_table(&format!("owner-{number}"), at(now), at(until)).await
        });
        results.into_iter().filter(|claimed| *claimed == Ok(true)).count()
    };
    assert_eq!(claims(0, 10), 1);
    assert_eq!(claims(9, 19), 0, "until it runs out");
    assert_eq!(claims(10, 20), 1);
    run(async {
        let ledger = shared.open();
        // The claim is there to keep others from reading what has just been read.
        ledger.store_table(&table(at(11), 1)).await.unwrap();
        assert_eq!(ledger.claim_table("x", at(19), at(30)).await, Ok(false));
    });
    // One process has one name, and still only one of its tasks may renew the table.
    let same = at_once(shared, 4, async |_, ledger| {
        ledger.claim_table("same", at(30), at(40)).await
    });
    assert_eq!(same.into_iter().filter(|claimed| *claimed == Ok(true)).count(), 1);
}

pub fn the_table_read_last_wins(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        assert_eq!(ledger.load_table().await, Ok(None));
        let mut version = 0;
        // Small and large ones take turns: each must put the other away whole.
        for (seconds, rules) in [(1, 2), (2, 3000), (3, 1000), (4, 3000), (5, 1)] {
            let (early, late) = (table(at(seconds - 1), 4), table(at(seconds), rules));
            ledger.store_table(&late).await.unwrap();
            let stored = ledger.load_table().await.unwrap().unwrap();
            assert_eq!(stored.table, late);
            ledger.store_table(&early).await.unwrap();
            assert_eq!(
                ledger.load_table().await.unwrap().unwrap(),
                stored,
                "an earlier one changes nothing"
            );
            ledger.store_table(&late).await.unwrap();
            assert_eq!(
                ledger.load_table().await.unwrap().unwrap(),
                stored,
                "the same again, neither"
            );
            assert!(stored.version > version);
            version = stored.version;
        }
        // As good as at the same moment, and still in order.
        let moment = at(6);
        let next = after(moment, Duration::from_nanos(1));
        ledger.store_table(&table(next, 2)).await.unwrap();
        ledger.store_table(&table(moment, 3)).await.unwrap();
        assert_eq!(ledger.load_table().await.unwrap().unwrap().table, table(next, 2));
    });
}

pub fn a_large_table_is_never_seen_in_halves(shared: &impl Shared) {
    let tables = [table(at(1), 2500), table(at(2), 3000), table(at(3), 3500)];
    for table in &tables {
        let size = serde_json::to_vec(table).unwrap().len();
        assert!(size > 450_000, "{size}: larger than one item of DynamoDB");
    }
    run(shared.open().store_table(&tables[0])).unwrap();
    at_once(shared, 4, async |number, ledger| {
        if number < 2 {
            for table in &tables[1..] {
                ledger.store_table(table).await.unwrap();
            }
        } else {
            for _ in 0..6 {
                let stored = ledger.load_table().await.unwrap();
                assert!(tables.contains(&stored.expect("there is always one").table));
            }
        }
    });
    let stored = run(shared.open().load_table()).unwrap().unwrap();
    assert!(stored.table == tables[2]);
}

pub fn claims_on_machines_are_mutual(shared: &impl Shared) {
    let machine = |id: &str| ResourceId(id.to_owned());
    let machines = [machine("i-1"), machine("i-2")];
    run(async {
        let ledger = shared.open();
        let (site, shop) = (name("site"), name("shop"));
        let all = |_: &RuleName| true;
        let nobody = |_: &RuleName| false;
        assert_eq!(ledger.own(&site, &machines, &[], &all).await, Ok(vec![None, None]));
        assert_eq!(
            ledger.own(&site, &machines, &[], &all).await,
            Ok(vec![None, None]),
            "again"
        );
        let shared_one = Ok(vec![Some(site.clone())]);
        assert_eq!(ledger.own(&shop, &machines[..1], &[], &all).await, shared_one);
        assert_eq!(
            ledger.own(&site, &machines, &[], &all).await,
            Ok(vec![Some(shop.clone()), None])
        );
        // Let go of, but not what is claimed in the same breath.
        assert_eq!(ledger.own(&shop, &[], &machines, &all).await, Ok(vec![]));
        assert_eq!(
            ledger.own(&site, &machines, &machines, &all).await,
            Ok(vec![None, None])
        );
        assert_eq!(ledger.own(&shop, &machines[1..], &[], &all).await, shared_one);
        assert_eq!(ledger.claimants(&machines[0]).await, Ok(vec![site.clone()]));
        assert_eq!(
            ledger.claimants(&machines[1]).await,
            Ok(vec![shop.clone(), site.clone()])
        );
        assert_eq!(ledger.claimants(&machine("i-a-strangers")).await, Ok(vec![]));
        // A rule that is gone loses its claims to whoever looks.
        assert_eq!(ledger.own(&shop, &machines, &[], &nobody).await, Ok(vec![None, None]));
        assert_eq!(ledger.own(&shop, &machines, &[], &all).await, Ok(vec![None, None]));
    });
    let results = at_once(shared, 6, async |number, ledger| {
        let rule = name(&format!("rule-{number}"));
        ledger.own(&rule, &[machine("i-3")], &[], &|_| true).await.unwrap()
    });
    let unaware = results.iter().filter(|others| others[0].is_none()).count();
    assert!(
        unaware <= 1,
        "of all that claim a machine at once only the first can miss the others: {results:?}"
    );
}

pub fn held_requests_are_counted_over_two_windows(shared: &impl Shared) {
    let window = 20 * SECOND;
    run(async {
        let ledger = shared.open();
        for (now, count) in [
            (0, 1),
            (19, 2),
            (20, 3),
            (39, 4),
            (40, 3),
            (60, 2),
            (99, 2),
            (119, 2),
            (160, 1),
        ] {
            assert_eq!(ledger.enter_hold(at(now), window).await, Ok(count), "{now}");
        }
    });
    let mut counts = at_once(shared, 8, async |_, ledger| {
        ledger.enter_hold(at(200), window).await.unwrap()
    });
    counts.sort_unstable();
    assert_eq!(counts, (1..=8).collect::<Vec<_>>(), "none is lost");
}

pub fn history_comes_newest_first(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        let site = name("site");
        assert_eq!(ledger.history(&site, 10).await, Ok(vec![]));
        let half = Event {
            at: after(at(0), SECOND / 2),
            ..event(0, "half a second later")
        };
        let events = [event(0, "first"), event(0, "at the same time"), half, event(9, "last")];
        ledger.append(&site, &events[..2]).await.unwrap();
        ledger.append(&site, &events[3..]).await.unwrap();
        ledger.append(&site, &events[2..3]).await.unwrap();
        ledger.append(&name("site2"), &[event(5, "of another")]).await.unwrap();
        ledger.append(&site, &[]).await.unwrap();
        let newest_first: Vec<_> = events.iter().rev().cloned().collect();
        assert_eq!(ledger.history(&site, 10).await.as_ref(), Ok(&newest_first));
        assert_eq!(ledger.history(&site, 2).await.as_deref(), Ok(&newest_first[..2]));
        assert_eq!(ledger.history(&site, 0).await, Ok(vec![]));
        ledger.append(&site, &events[..2]).await.unwrap();
        assert_eq!(
            ledger.history(&site, 10).await,
            Ok(newest_first),
            "appended again after a lost answer"
        );
        let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
        let many: Vec<_> = (0..30)
            .map(|second| Event {
                at: after(long_ago, second * SECOND),
                ..event(0, "x")
            })
            .collect();
        ledger.append(&name("many"), &many).await.unwrap();
        assert_eq!(ledger.history(&name("many"), 25).await.unwrap().len(), 25);
        assert_eq!(ledger.history(&name("many"), 1).await.unwrap(), many[29..]);
    });
}

pub fn what_a_later_version_wrote_is_left_alone(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        let later = Record {
            schema: SCHEMA + 1,
            ..record("site")
        };
        ledger.store(&later).await.unwrap();
        let newer =
            |error| matches!(error, LedgerError::Newer { found, known, .. } if (found, known) == (SCHEMA + 1, SCHEMA));
        assert!(newer(ledger.load(&later.rule).await.unwrap_err()));
        let mut later = table(at(1), 1);
        later.schema = SCHEMA + 1;
        ledger.store_table(&later).await.unwrap();
        assert!(newer(ledger.load_table().await.unwrap_err()));
        for rules in [1, 3000] {
            assert!(newer(ledger.store_table(&table(at(2), rules)).await.unwrap_err()));
            assert!(newer(ledger.load_table().await.unwrap_err()));
        }
    });
}

pub fn many_records_come_in_their_order(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        // More than DynamoDB gives in one call.
        let names: Vec<RuleName> = (0..130).map(|number| name(&format!("rule-{number}"))).collect();
        for known in names.iter().step_by(2) {
            ledger.store(&record(&known.0)).await.unwrap();
        }
        let loaded = ledger.load_all(&names).await.unwrap();
        assert_eq!(loaded.len(), names.len());
        for (number, (wanted, loaded)) in names.iter().zip(loaded).enumerate() {
            let loaded = loaded.unwrap();
            assert_eq!(loaded.is_some(), number % 2 == 0, "{wanted}");
            assert!(loaded.is_none_or(|record| record.rule == *wanted && record.version == 1));
        }
        assert_eq!(ledger.load_all(&[]).await, Ok(vec![]));
    });
}

pub fn a_spoilt_record_harms_no_other(shared: &impl Shared) {
    run(async {
        let ledger = shared.open();
        let later = Record {
            schema: SCHEMA + 1,
            ..record("later")
        };
        ledger.store(&later).await.unwrap();
        ledger.store(&record("site")).await.unwrap();
        let loaded = ledger.load_all(&[name("later"), name("site")]).await.unwrap();
        assert!(matches!(loaded[0], Err(LedgerError::Newer { .. })));
        assert!(matches!(&loaded[1], Ok(Some(site)) if site.rule == name("site")));
    });
}
