//! What only a database can do.

use super::*;

#[test]
fn what_is_not_ours_is_named_and_left_alone() {
    let table = Table::new("unreadable");
    run(async {
        let ledger = table.open();
        let fresh = record("site");
        ledger.store(&fresh).await.unwrap();
        ledger.store_table(&self::table(at(1), 1)).await.unwrap();
        ledger.append(&fresh.rule, &[event(0, "x")]).await.unwrap();
        let spoilt = [
            ("body", AttributeValue::S("{}".to_owned())),
            ("body", AttributeValue::N("1".to_owned())),
            ("version", AttributeValue::N("-1".to_owned())),
            ("schema", AttributeValue::S("one".to_owned())),
        ];
        for (attribute, value) in spoilt {
            table.spoil("rule#site", "record", attribute, value).await;
            let error = ledger.load(&fresh.rule).await.unwrap_err();
            assert!(
                matches!(&error, LedgerError::Unreadable { item, .. } if item == "rule#site"),
                "{error}"
            );
        }
        let spoilt = [
            ("generation", AttributeValue::N("1".to_owned())),
            ("parts", AttributeValue::N("-1".to_owned())),
            ("schema", AttributeValue::S("one".to_owned())),
        ];
        for (attribute, value) in spoilt {
            table.spoil("table", "routes", attribute, value).await;
            let error = ledger.load_table().await.unwrap_err();
            assert!(matches!(error, LedgerError::Unreadable { .. }), "{error}");
        }
        let entry = &table.items("rule#site").await[0]["sk"];
        table
            .spoil(
                "rule#site",
                entry.as_s().unwrap(),
                "body",
                AttributeValue::S("?".to_owned()),
            )
            .await;
        let error = ledger.history(&fresh.rule, 1).await.unwrap_err();
        assert!(
            error.to_string().contains("rule#site event#2026-01-01T00:00:00"),
            "{error}"
        );
    });
}

#[test]
fn items_expire_and_nothing_is_left_behind() {
    let table = Table::new("expiry");
    run(async {
        let ledger = table.open();
        let expires = |item: &BTreeMap<String, AttributeValue>| {
            let seconds = item
                .get("expires")
                .map(|value| value.as_n().unwrap().parse::<i64>().unwrap());
            seconds.map(|seconds| seconds - at(0).as_second())
        };
        ledger.store(&record("site")).await.unwrap();
        ledger.append(&name("site"), &[event(1, "x")]).await.unwrap();
        let kept: Vec<_> = table.items("rule#site").await.iter().map(expires).collect();
        assert_eq!(kept, [Some(400 * 86400 + 1), None], "the history, never the record");
        ledger.enter_hold(at(0), 20 * SECOND).await.unwrap();
        assert!(expires(&table.items("held").await[0]).unwrap() >= 40);
        ledger.claim_table("x", at(0), at(10)).await.unwrap();
        assert!(expires(&table.items("table").await[0]).unwrap() >= 10);
        for (seconds, rules) in [(1, 3000), (2, 4500), (3, 1), (4, 3000)] {
            let large = self::table(at(seconds), rules);
            ledger.store_table(&large).await.unwrap();
            ledger.store_table(&self::table(at(0), 3000)).await.unwrap();
            let items = table_items(&table).await;
            let (head, rest) = items.split_first().unwrap();
            assert_eq!(head["sk"].as_s().unwrap(), "routes");
            let parts: usize = head["parts"].as_n().unwrap().parse().unwrap();
            assert!(parts * 400_000 >= serde_json::to_vec(&large).unwrap().len());
            let own = format!("routes#{}#", head["generation"].as_s().unwrap());
            let ours = rest.iter().filter(|item| item["sk"].as_s().unwrap().starts_with(&own));
            assert_eq!(ours.count(), parts, "{rules}");
            assert!(expires(head).is_none() && rest.iter().all(|part| expires(part) >= Some(86400)));
        }
        // Parts that expired: then there is no table, and the next one is stored as ever.
        let items = table_items(&table).await;
        let generation = items[0]["generation"].as_s().unwrap();
        let lost = AttributeValue::S(format!("routes#{generation}#00000"));
        let delete = table.client().delete_item().table_name(table.name);
        delete
            .key("pk", AttributeValue::S("table".to_owned()))
            .key("sk", lost)
            .send()
            .await
            .unwrap();
        let ledger = table.open();
        assert_eq!(ledger.load_table().await, Ok(None));
        ledger.store_table(&self::table(at(5), 3000)).await.unwrap();
        assert!(ledger.load_table().await.unwrap().is_some());
    });
}

/// The head of the route table and all parts, without the claim.
async fn table_items(table: &Table) -> Vec<BTreeMap<String, AttributeValue>> {
    let items = table.items("table").await.into_iter();
    items.filter(|item| item["sk"].as_s().unwrap() != "claim").collect()
}

#[test]
fn a_table_that_is_not_there_is_a_fault() {
    let table = Table {
        moto: Moto::shared(),
        name: "nowhere",
    };
    let error = run(table.open().load(&name("site"))).unwrap_err();
    let LedgerError::Fault(fault) = error else {
        panic!("{error}");
    };
    assert_eq!(fault.operation, "dynamodb:GetItem");
    assert_eq!(fault.kind, proxymanager::domain::fault::FaultKind::NotFound);
    assert!(
        fault.message.starts_with("ResourceNotFoundException: "),
        "{}",
        fault.message
    );
}
