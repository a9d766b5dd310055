use tempfile::TempDir;

use super::*;

fn id(command: &str) -> ResourceId {
    ResourceId(format!("program:{command}"))
}

async fn power(programs: &Programs, id: &ResourceId) -> Power {
    programs.describe(std::slice::from_ref(id)).await.unwrap()[0].power
}

/// Red when only the shell was killed: the `sleep` in the background stayed.
#[tokio::test]
async fn a_program_runs_once_and_ends_with_all_it_started() {
    let place = TempDir::new().unwrap();
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let programs = Programs::open(folder, place.path().to_owned()).unwrap();
    let one = id("echo $$ >> begun; sleep 600 & trap '' TERM; wait; sleep 600");
    assert_eq!(power(&programs, &one).await, Power::Stopped);
    programs.start(std::slice::from_ref(&one)).await.unwrap();
    programs.start(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(power(&programs, &one).await, Power::Running);
    let group = programs.running(&one).unwrap().group;
    programs.stop(std::slice::from_ref(&one), StopKind::Stop).await.unwrap();
    assert_eq!(power(&programs, &one).await, Power::Stopped);
    assert_eq!(killpg(Pid::from_raw(group), None), Err(Errno::ESRCH), "nothing is left");
    programs.stop(std::slice::from_ref(&one), StopKind::Stop).await.unwrap();
}

/// Red when the number alone was compared: any process with it would have been taken for the program, and killed.
#[tokio::test]
async fn a_later_daemon_finds_it_again_and_takes_no_stranger_for_it() {
    let place = TempDir::new().unwrap();
    let one = id("sleep 600");
    let group = {
        let folder = Arc::new(Folder::open(place.path()).unwrap());
        let programs = Programs::open(folder, place.path().to_owned()).unwrap();
        programs.start(std::slice::from_ref(&one)).await.unwrap();
        programs.running(&one).unwrap().group
    };
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let later = Programs::open(folder.clone(), place.path().to_owned()).unwrap();
    assert_eq!(power(&later, &one).await, Power::Running);
    let mut stranger = later.running(&one).unwrap();
    stranger.begun += 1;
    let noted = serde_json::to_vec(&BTreeMap::from([(one.clone(), stranger)])).unwrap();
    folder.put(FILE, &noted).unwrap();
    let other = Programs::open(folder, place.path().to_owned()).unwrap();
    assert_eq!(power(&other, &one).await, Power::Stopped);
    other.stop(std::slice::from_ref(&one), StopKind::Stop).await.unwrap();
    assert_eq!(killpg(Pid::from_raw(group), None), Ok(()), "left alone");
    later.end_all().await;
    assert_eq!(killpg(Pid::from_raw(group), None), Err(Errno::ESRCH));
}
