//! Ways in which a directory, or something above or below it, is replaced: all are noticed without a periodic scan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::tests::{Bench, has, manifest};

fn put(dir: &Path, name: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(format!("{name}.yaml")), manifest(name)).unwrap();
}

/// The directory `m` is a link, or below one, before anything is read.
async fn laid_out(lay_out: impl FnOnce(&Path)) -> Bench {
    let home = tempfile::tempdir().unwrap();
    lay_out(home.path());
    Bench::on(home, &[]).await
}

async fn seen(bench: &Bench, name: &str) {
    let id = format!("m:{name}:default");
    bench.until(name, |p| has(p, &id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_directory_is_watched_again() {
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    let dir = bench.path("");
    let before = dir.metadata().unwrap().ino();
    fs::remove_dir_all(&dir).unwrap();
    put(&dir, "b");
    seen(&bench, "b").await;
    // On most file systems it has the number of the old one.
    let same = dir.metadata().unwrap().ino() == before;
    for name in ["c", "d"] {
        bench.write(&format!("{name}.yaml"), &manifest(name));
        bench
            .until(&format!("{name}, same inode: {same}"), |p| {
                has(p, &format!("m:{name}:default"))
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_sub_directory_is_watched_again() {
    let bench = Bench::start(&[]).await;
    let sub = bench.path("team/tasks");
    put(&sub, "a");
    seen(&bench, "a").await;
    fs::remove_dir_all(bench.path("team")).unwrap();
    put(&sub, "b");
    seen(&bench, "b").await;
    put(&sub, "c");
    seen(&bench, "c").await;
    put(&bench.home.path().join("new/tasks"), "d");
    fs::rename(bench.path("team"), bench.home.path().join("old")).unwrap();
    fs::rename(bench.home.path().join("new"), bench.path("team")).unwrap();
    seen(&bench, "d").await;
    put(&sub, "e");
    seen(&bench, "e").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_above_the_directory_that_is_swapped_is_noticed() {
    let bench = laid_out(|home| {
        put(&home.join("rev1/m"), "a");
        symlink("rev1", home.join("current")).unwrap();
        symlink("current/m", home.join("m")).unwrap();
    })
    .await;
    seen(&bench, "a").await;
    let home = bench.home.path();
    put(&home.join("rev2/m"), "b");
    symlink("rev2", home.join("next")).unwrap();
    fs::rename(home.join("next"), home.join("current")).unwrap();
    seen(&bench, "b").await;
    bench.until("a is gone", |p| !has(p, "m:a:default")).await;
    put(&home.join("rev2/m"), "c");
    seen(&bench, "c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_sub_directory_is_read_and_watched() {
    let bench = laid_out(|home| {
        let dir = home.join("m");
        put(&dir.join("..1/team"), "nested");
        put(&dir.join("..1"), "flat");
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/team", dir.join("team")).unwrap();
        symlink("..data/flat.yaml", dir.join("flat.yaml")).unwrap();
    })
    .await;
    bench.settled(2).await;
    assert_eq!(bench.ids(), ["m:flat:default", "m:nested:default"]);
    let places: Vec<String> = bench
        .catalog
        .plan()
        .schedules
        .values()
        .map(|d| d.origin.place.clone())
        .collect();
    assert!(places[1].ends_with("m/team/nested.yaml:2"), "{places:?}");
    // In place behind the link.
    put(&bench.path("..1/team"), "more");
    seen(&bench, "more").await;
    // As kubelet does: a new tree, and the link to it swapped.
    put(&bench.path("..2/team"), "later");
    symlink("..2", bench.path("..next")).unwrap();
    fs::rename(bench.path("..next"), bench.path("..data")).unwrap();
    seen(&bench, "later").await;
    bench.until("old ones are gone", |p| !has(p, "m:nested:default")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_behind_a_link_that_is_edited_in_place_is_noticed() {
    let bench = laid_out(|home| {
        put(&home.join("m/.store/x"), "a");
        symlink("x", home.join("m/.store/current")).unwrap();
        symlink(".store/current/a.yaml", home.join("m/a.yaml")).unwrap();
    })
    .await;
    seen(&bench, "a").await;
    fs::write(bench.path(".store/x/a.yaml"), manifest("b")).unwrap();
    seen(&bench, "b").await;
    put(&bench.path(".store/y"), "a");
    symlink("y", bench.path(".store/next")).unwrap();
    fs::rename(bench.path(".store/next"), bench.path(".store/current")).unwrap();
    seen(&bench, "a").await;
}
