use std::path::Path;

use super::*;
use crate::compute::program::Programs;
use crate::gateway::Gateway;

fn front(folder: &Path) -> Front {
    let config = ProxyConfig::read(&folder.join("config.toml"), "ledger = \"file:state\"").unwrap();
    let rule = "idle = \"1h\"\nresources = ['program:true']\n[[tcp]]\nport = 22\n";
    let rule = ProxyRule::read(&folder.join("dev.toml"), rule, &config).unwrap();
    let store = Arc::new(Folder::open(&config.ledger).unwrap());
    let programs = Programs::open(store.clone(), folder.to_owned()).unwrap();
    let front = Front::open(config, store, Kinds { programs, aws: None }).unwrap();
    front.set_rules(vec![rule], Vec::new()).unwrap();
    front
}

async fn leads_to_waker(front: &Front) -> bool {
    let table = front
        .read(crate::domain::time::Timestamp::UNIX_EPOCH, None)
        .await
        .unwrap();
    let route = &table.listeners[0].rules[0];
    route.actions[0].forwards_to_any(&[crate::domain::rule::GroupId(WAKER.to_owned())])
}

/// Red when a flip that was remembered was taken for one that Envoy had made: what is still led there would be stopped.
#[tokio::test]
async fn where_envoy_may_still_lead_to_the_machines_it_is_taken_to() {
    let folder = tempfile::tempdir().unwrap();
    let name = RuleName("dev".to_owned());
    let route = RouteId("envoy:dev".to_owned());
    {
        let front = front(folder.path());
        assert!(leads_to_waker(&front).await, "Envoy has never heard of it");
        front.flip(&route, Side::Backend).await.unwrap_err();
        assert!(!leads_to_waker(&front).await);
        assert!(!front.leads_to_backend(&name, 1), "nobody is sent there either");
        front.flip(&route, Side::Waker).await.unwrap_err();
        assert_eq!((front.side(&name), front.generation(&name)), (Side::Waker, 2));
        assert!(!leads_to_waker(&front).await);
    }
    // The daemon may have died before it told Envoy.
    assert!(!leads_to_waker(&front(folder.path())).await);
}

/// Red when it was changed here although it was not on the disk.
#[tokio::test]
async fn what_cannot_be_remembered_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let front = front(folder.path());
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state"), "").unwrap();
    let route = RouteId("envoy:dev".to_owned());
    let fault = front.flip(&route, Side::Backend).await.unwrap_err();
    assert_eq!(fault.operation, "proxy:remember");
    assert_eq!(front.side(&RuleName("dev".to_owned())), Side::Waker);
    assert!(leads_to_waker(&front).await);
}
