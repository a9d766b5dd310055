//! What is opted in to the proxy by its tags.

use super::ec2::Ec2;
use super::rds::Rds;
use crate::config::discovered::{ACCESS_POINT, PROXY, Tagged};
use crate::domain::fault::Fault;
use crate::domain::seen::Power;

/// The machines and databases with the tag `autostopping:proxy`, and the machines that are proxies, in the order of their ids;
/// not what is terminated.
///
/// # Errors
/// When either service cannot be asked: half of what there is would look as if the other half were gone.
pub async fn tagged(ec2: &Ec2, rds: &Rds) -> Result<Vec<Tagged>, Fault> {
    let machines = ec2.machines_tagged(&[PROXY, ACCESS_POINT]).await?.into_iter();
    let machines = machines.filter(|machine| machine.power != Power::Terminated);
    let machines = machines.map(|machine| Tagged {
        id: machine.id,
        tags: machine.tags,
        port: None,
        cluster: None,
    });
    let databases = rds.all().await?.into_iter();
    let databases = databases.filter(|database| database.tags.contains_key(PROXY));
    let databases = databases.map(|database| Tagged {
        id: database.id,
        tags: database.tags,
        port: database.endpoint.map(|endpoint| endpoint.port),
        cluster: database.cluster,
    });
    let mut all: Vec<_> = machines.chain(databases).collect();
    all.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(all)
}
