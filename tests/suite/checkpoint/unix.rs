//! Checkpoint tests that need Unix: links, devices, permissions, limits on the size of files.

use super::*;
use std::os::unix::fs::symlink;
use std::process::{Command, ExitStatus};

const TARGET: &str = "DUET_TEST_SAVE_TO";

#[test]
fn links_are_followed_and_devices_left_alone() {
    let folder = Folder::new();
    let link = folder.path().join("latest");
    write_atomic(&folder.file(), b"old").unwrap();
    symlink("model.safetensors", &link).unwrap();
    write_atomic(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(folder.file()).unwrap(), b"new");

    let device = folder.path().join("device");
    symlink("/dev/null", &device).unwrap();
    for path in [device.as_path(), Path::new("/dev/null")] {
        let error = cause(full().save(path), path.to_str().unwrap());
        assert!(error.contains("not a regular file"), "{error}");
    }
}

/// Not a test of its own: the process that the next tests let run out of disk, or kill.
#[test]
#[ignore = "run by the tests of full disks and killed writers"]
fn save_where_told() {
    if let Some(path) = std::env::var_os(TARGET) {
        let error = big().save(Path::new(&path)).unwrap_err();
        println!("{error}");
        std::process::exit(42);
    }
}

fn big() -> Checkpoint {
    let weights = Tensors::from([("big".to_owned(), tensor(&[1000, 1000], |i| i as f32))]);
    Checkpoint { weights, ..inference_only() }
}

/// Saves [`big`] in a process whose files may not grow beyond about 64 KiB, and that is killed by the attempt
/// unless `ignored`, when writing fails as on a full disk.
fn save_with_limit(path: &Path, ignored: bool) -> ExitStatus {
    let trap = if ignored { "trap '' 25; " } else { "" };
    let module = module_path!().split_once("::").unwrap().1;
    Command::new("sh")
        .args(["-c", &format!("{trap}ulimit -c 0; ulimit -f 64; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("{module}::save_where_told"), "--exact", "--ignored", "--nocapture"])
        .env(TARGET, path)
        .output()
        .unwrap()
        .status
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new();
    full().save(&folder.file()).unwrap();
    assert_eq!(save_with_limit(&folder.file(), true).code(), Some(42));
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), full());
    assert_eq!(folder.names(), ["model.safetensors"]);
}

#[test]
fn a_process_killed_while_saving_leaves_the_old_file() {
    let folder = Folder::new();
    full().save(&folder.file()).unwrap();
    // Killed: no exit code. Its temporary file stays until the next save.
    assert_eq!(save_with_limit(&folder.file(), false).code(), None);
    assert_eq!(folder.names().len(), 2);
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), full());
    big().save(&folder.file()).unwrap();
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), big());
    assert_eq!(folder.names(), ["model.safetensors"]);
}

#[test]
fn a_read_only_folder_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    full().save(&folder.file()).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write everywhere: then there is nothing to test.
    let binds = fs::write(folder.path().join("probe"), "").is_err();
    let result = inference_only().save(&folder.file());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if binds {
        assert!(cause(result, folder.file().to_str().unwrap()).contains("cannot be written"));
        assert_eq!(Checkpoint::load(&folder.file()).unwrap(), full());
    }
}
