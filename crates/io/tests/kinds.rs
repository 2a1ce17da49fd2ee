//! NIfTI-2, pairs of files, gzip streams of every sort: read, or refused with the right error.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use flate2::{Compression, write::GzEncoder};
use ndarray::{Array3, Array4, Axis};
use proptest::prelude::*;
use scribseg_io::{
    Error, Geometry, LabelVolume, Volume, read_geometry, write_case, write_image, write_labels,
};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, name: &str, bytes: &[u8]) -> Result<Volume, Error> {
        Volume::read(self.put(name, bytes))
    }
}

/// A 5 × 4 × 3 image of 32-bit floats, little-endian NIfTI-1: header, then voxels 1 to 60 from byte 352 on.
fn one() -> Vec<u8> {
    let lab = Lab::new();
    let grid = Geometry::from_spacing([3, 4, 5], [1.0; 3]).unwrap();
    let image = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (20 * z + 5 * y + x) as f32 + 1.0);
    let path = lab.0.path().join("good.nii");
    write_image(&path, image.view(), &grid).unwrap();
    std::fs::read(path).unwrap()
}

/// The same as NIfTI-2 in the byte order asked for, by the standard's table of offsets.
fn two(little: bool) -> Vec<u8> {
    let one = one();
    let mut out = vec![0; 544];
    let mut put = |at: usize, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        if !little {
            bytes.reverse();
        }
        out[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    let f32_at = |at: usize| f64::from(f32::from_le_bytes(one[at..at + 4].try_into().unwrap()));
    put(0, &540_i32.to_le_bytes());
    put(12, &16_i16.to_le_bytes());
    put(14, &32_i16.to_le_bytes());
    for (n, length) in [3_i64, 5, 4, 3, 1, 1, 1, 1].into_iter().enumerate() {
        put(16 + 8 * n, &length.to_le_bytes());
        put(104 + 8 * n, &1_f64.to_le_bytes());
    }
    put(168, &544_i64.to_le_bytes());
    put(344, &1_i32.to_le_bytes());
    put(348, &1_i32.to_le_bytes());
    put(500, &2_i32.to_le_bytes());
    for n in 0..6 {
        put(352 + 8 * n, &f32_at(256 + 4 * n).to_le_bytes());
    }
    for n in 0..12 {
        put(400 + 8 * n, &f32_at(280 + 4 * n).to_le_bytes());
    }
    out[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
    for voxel in one[352..].as_chunks::<4>().0 {
        let mut voxel = *voxel;
        if !little {
            voxel.reverse();
        }
        out.extend_from_slice(&voxel);
    }
    out
}

fn patched(bytes: &[u8], patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, patch) in patches {
        bytes[*at..at + patch.len()].copy_from_slice(patch);
    }
    bytes
}

#[test]
fn both_versions_are_one_image() {
    let lab = Lab::new();
    let volume = lab.read("one.nii", &one()).unwrap();
    assert_eq!(volume.data[[2, 3, 4]], 60.0);
    for little in [true, false] {
        let other = lab.read("two.nii", &two(little)).unwrap();
        assert_eq!(other.data, volume.data);
        assert_eq!(other.geometry.affine(), volume.geometry.affine());
        volume.geometry.same_grid(&other.geometry).unwrap();
        assert_eq!(lab.read("two.nii.gz", &gzip(&two(little))).unwrap(), other);
        // Written back it is a NIfTI-1 file on the same grid.
        let path = lab.0.path().join("labels.nii");
        write_labels(&path, Array3::zeros((3, 4, 5)).view(), &other.geometry).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[..4], 348_i32.to_le_bytes());
        other.geometry.same_grid(&read_geometry(&path).unwrap()).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_nifti_2_header_is_named() {
    let lab = Lab::new();
    let two = two(true);
    let read = |patches: &[(usize, &[u8])]| lab.read("test.nii", &patched(&two, patches)).unwrap_err();
    let field = |patches: &[(usize, &[u8])]| match read(patches) {
        Error::BadHeader { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(&[(16, &0_i64.to_le_bytes())]), "dim[0]");
    assert_eq!(field(&[(16, &i64::MIN.to_le_bytes())]), "dim[0]");
    assert_eq!(field(&[(24, &(-1_i64).to_le_bytes())]), "dim[1]");
    assert_eq!(field(&[(168, &100_i64.to_le_bytes())]), "vox_offset");
    assert_eq!(field(&[(168, &i64::MIN.to_le_bytes())]), "vox_offset");
    assert_eq!(field(&[(168, &i64::MAX.to_le_bytes())]), "vox_offset");
    assert_eq!(field(&[(176, &1_f64.to_le_bytes()), (184, &f64::NAN.to_le_bytes())]), "scl_inter");
    assert_eq!(field(&[(400, &f64::INFINITY.to_le_bytes())]), "sform");
    assert_eq!(field(&[(348, &[0; 4]), (352, &2_f64.to_le_bytes())]), "quatern");
    // The line ends of its signature tell a file that was copied as text.
    for signature in [&b"n+2\0\n\x1a\n\0"[..], b"n+2\0\r\r\n\x1a"] {
        assert!(matches!(read(&[(4, signature)]), Error::Corrupt { .. }));
    }
    assert!(matches!(read(&[(4, b"ni2\0\r\n\x1a\n")]), Error::UnsupportedKind { .. }));
    assert!(matches!(read(&[(4, b"abcd\r\n\x1a\n")]), Error::NotNifti { .. }));
    for (code, name) in
        [(32_i16, "complex"), (1536, "128-bit"), (128, "colours"), (2304, "colours"), (1, "bits")]
    {
        let error = read(&[(12, &code.to_le_bytes())]);
        assert!(
            matches!(error, Error::UnsupportedType { .. }) && error.to_string().contains(name),
            "{error}"
        );
    }
    for length in 0..two.len() {
        match lab.read("test.nii", &two[..length]).unwrap_err() {
            Error::NotNifti { .. } => assert!(length < 540, "{length}"),
            Error::Truncated { expected, found, .. } => {
                assert!(length >= 540);
                assert_eq!((expected, found), (784, length as u64));
            }
            other => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn impossible_sizes_are_refused_at_once() {
    let lab = Lab::new();
    let start = Instant::now();
    let dims = |lengths: &[i64]| {
        let mut patches = vec![(16, (lengths.len() as i64).to_le_bytes())];
        patches.extend(lengths.iter().enumerate().map(|(n, length)| (24 + 8 * n, length.to_le_bytes())));
        let patches: Vec<(usize, &[u8])> = patches.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        patched(&two(true), &patches)
    };
    for lengths in [
        &[1 << 14, 1 << 13, 1 << 13][..],
        &[1 << 40, 1, 1],
        &[1 << 62, 1, 1],
        &[i64::MAX, i64::MAX, i64::MAX],
        &[1 << 32, 1 << 32, 1],
        &[5, 4, 3, 1 << 62],
    ] {
        for bytes in [dims(lengths), gzip(&dims(lengths))] {
            let path = lab.put("huge.nii", &bytes);
            let errors = [
                Volume::read(&path).map(drop).unwrap_err(),
                LabelVolume::read(&path).map(drop).unwrap_err(),
                read_geometry(&path).map(drop).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, Error::Truncated { .. } | Error::NotThreeD { .. }), "{error}");
            }
        }
    }
    // Not a limit on speed: reading that much would take hours, and holding it more memory than there is.
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn pairs_are_read_by_either_name() {
    let lab = Lab::new();
    let whole = one();
    let expected = lab.read("whole.nii", &whole).unwrap();
    let header = patched(&whole[..348], &[(344, b"ni1\0"), (108, &0_f32.to_le_bytes())]);
    let voxels = &whole[352..];
    let header2 = patched(&two(false)[..540], &[(4, b"ni2\0\r\n\x1a\n"), (168, &[0; 8])]);
    let voxels2 = &two(false)[544..];
    for (n, (header, voxels)) in [(&header[..], voxels), (&header2, voxels2)].into_iter().enumerate() {
        for (m, (hdr, img)) in
            [("hdr", "img"), ("hdr.gz", "img.gz"), ("hdr", "img.gz"), ("HDR", "IMG")].into_iter().enumerate()
        {
            let pack =
                |name: &str, bytes: &[u8]| if name.ends_with("gz") { gzip(bytes) } else { bytes.to_vec() };
            let hdr = lab.put(&format!("p{n}{m}.{hdr}"), &pack(hdr, header));
            let img = lab.put(&format!("p{n}{m}.{img}"), &pack(img, voxels));
            for path in [&hdr, &img] {
                let volume = Volume::read(path).unwrap();
                assert_eq!(volume.data, expected.data, "{}", path.display());
                assert_eq!(volume.geometry.affine(), expected.geometry.affine());
            }
            // Without its other half.
            std::fs::remove_file(&img).unwrap();
            let error = Volume::read(&hdr).unwrap_err();
            assert!(matches!(&error, Error::Read { path, .. } if path != &hdr), "{error}");
        }
    }
    // Voxels that start later, that are too few, and two files of them.
    let later = patched(&header, &[(108, &16_f32.to_le_bytes())]);
    let path = lab.put("late.hdr", &later);
    lab.put("late.img", &[&[7; 16], voxels].concat());
    assert_eq!(Volume::read(&path).unwrap().data, expected.data);
    lab.put("late.img", voxels);
    let error = Volume::read(&path).unwrap_err();
    assert!(matches!(&error, Error::Truncated { path, .. } if path.ends_with("late.img")), "{error}");
    lab.put("late.img.gz", &gzip(voxels));
    assert!(matches!(Volume::read(&path), Err(Error::Duplicate { .. })));
    // The header of a single file may be called .hdr; the header of a pair may not be called .nii.
    assert_eq!(lab.read("single.hdr", &whole).unwrap().data, expected.data);
    assert!(matches!(lab.read("half.nii", &header), Err(Error::UnsupportedKind { .. })));
    // Analyze 7.5 has no magic, and no orientation.
    let error = lab.read("old.hdr", &patched(&header, &[(344, &[0; 4])])).unwrap_err();
    assert!(
        matches!(error, Error::UnsupportedKind { .. }) && error.to_string().contains("Analyze"),
        "{error}"
    );
    lab.put("old.img", voxels);
    assert!(Volume::read(lab.0.path().join("old.img")).unwrap_err().to_string().contains("Analyze"));
}

#[test]
fn gzip_streams_of_every_sort() {
    let lab = Lab::new();
    let whole = one();
    let expected = lab.read("whole.nii", &whole).unwrap();
    let several: Vec<u8> = whole.chunks(100).flat_map(gzip).collect();
    assert_eq!(lab.read("members.nii.gz", &several).unwrap(), expected);
    for garbage in [&b"trailing garbage"[..], &[0; 512], &[0x1f]] {
        let bytes = [gzip(&whole), garbage.to_vec()].concat();
        assert_eq!(lab.read("garbage.nii.gz", &bytes).unwrap(), expected);
    }
    // Garbage in place of voxels is none.
    let bytes = [gzip(&whole[..400]), b"trailing garbage".to_vec()].concat();
    assert!(matches!(
        lab.read("short.nii.gz", &bytes),
        Err(Error::Truncated { expected: 592, found: 400, .. })
    ));
    let packed = gzip(&whole);
    let cut = [packed.clone(), packed[..20].to_vec()].concat();
    assert!(matches!(lab.read("cut.nii.gz", &cut), Err(Error::Corrupt { .. })));
    // A few bytes more than the header asks for do no harm; a stream without end does.
    assert_eq!(lab.read("more.nii.gz", &gzip(&[&whole[..], &[0; 4000]].concat())).unwrap(), expected);
    let bomb = gzip(&[&whole[..], &vec![0; 64 << 20]].concat());
    let start = Instant::now();
    let error = lab.read("bomb.nii.gz", &bomb).unwrap_err();
    assert!(matches!(error, Error::Surplus { expected: 592, .. }), "{error}");
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn slopes_and_values_at_the_edge() {
    let lab = Lab::new();
    let two = two(true);
    let scaled = |slope: f64, inter: f64| {
        lab.read("scaled.nii", &patched(&two, &[(176, &slope.to_le_bytes()), (184, &inter.to_le_bytes())]))
    };
    let plain = lab.read("plain.nii", &two).unwrap();
    for slope in [0.0, f64::NAN, f64::INFINITY] {
        assert_eq!(scaled(slope, f64::NAN).unwrap(), plain);
    }
    assert_eq!(scaled(-0.5, 3.0).unwrap().data, plain.data.mapv(|v| -0.5 * v + 3.0));
    let overflow = scaled(1e300, 0.0).unwrap_err();
    assert!(matches!(overflow, Error::NonFinite { count: 60, .. }), "{overflow}");
    // Labels as floats with whole values are labels; NaN is none.
    let labels = LabelVolume::read(lab.put("labels.nii", &two)).unwrap();
    assert_eq!(labels.data.mapv(|v| v as f32), plain.data);
    let nan = lab.put("nan.nii", &patched(&two, &[(544, &f32::NAN.to_le_bytes())]));
    let error = LabelVolume::read(&nan).unwrap_err();
    assert!(matches!(error, Error::NonInteger { count: 1, first: [0, 0, 0], .. }), "{error}");
}

/// What a process has held at most since it was last asked, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_nifti_2_headers_never_panic(
        patches in prop::collection::vec((0..544_usize, any::<u8>()), 1..8),
        little: bool,
        packed: bool,
    ) {
        let lab = Lab::new();
        let mut bytes = two(little);
        for (at, byte) in patches {
            bytes[at] = byte;
        }
        let path = lab.put("test.nii", &if packed { gzip(&bytes) } else { bytes });
        if let Ok(volume) = Volume::read(&path) {
            prop_assert_eq!(volume.data.shape(), volume.geometry.shape());
        }
        let _ = LabelVolume::read(&path);
    }

    #[test]
    fn damaged_pairs_never_panic(
        patches in prop::collection::vec((0..348_usize, any::<u8>()), 1..8),
        length in 0..300_usize,
    ) {
        let lab = Lab::new();
        let mut header = patched(&one()[..348], &[(344, b"ni1\0"), (108, &[0; 4])]);
        for (at, byte) in patches {
            header[at] = byte;
        }
        let path = lab.put("test.hdr", &header);
        lab.put("test.img", &vec![1; length]);
        let _ = Volume::read(&path);
        let _ = LabelVolume::read(path.with_extension("img"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_stays_within_the_decoded_size() {
    // In a process of its own: the tests beside this one hold memory, too.
    const OWN: &str = "SCRIBSEG_TEST_MEMORY";
    let Some(folder) = std::env::var_os(OWN).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let (z, y, x) = (120, 200, 200);
        let grid = Geometry::from_spacing([z, y, x], [1.0; 3]).unwrap();
        let images = Array4::from_shape_fn((4, z, y, x), |(c, z, y, x)| ((c + z + y * x) % 97) as f32);
        let labels = Array3::from_shape_fn((z, y, x), |(z, y, x)| ((z + y + x) % 4) as u8);
        write_case(folder.path(), "case", images.view(), Some(labels.view()), &grid).unwrap();
        let affine = [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let other = Geometry::from_affine([y, z, x], &affine).unwrap();
        assert_eq!(other.shape(), [z, y, x]);
        write_image(folder.path().join("other.nii.gz"), images.index_axis(Axis(0), 1), &other).unwrap();
        write_labels(folder.path().join("labels.nii.gz"), labels.view(), &other).unwrap();
        let own = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory_stays_within_the_decoded_size", "--nocapture"])
            .env(OWN, folder.path())
            .output()
            .unwrap();
        print!("{}", String::from_utf8_lossy(&own.stdout));
        assert!(
            own.status.success(),
            "{}{}",
            String::from_utf8_lossy(&own.stdout),
            String::from_utf8_lossy(&own.stderr)
        );
        return;
    };
    let voxels = 120 * 200 * 200_u64;
    let grid = read_geometry(folder.join("labels.nii.gz")).unwrap();
    let mapping = std::collections::BTreeMap::from([(0, 0), (1, 1), (2, 2), (3, 0)]).try_into().unwrap();
    let before = peak().unwrap();
    // From the least to the most: what is held at most does not sink again. Each is dropped before the next.
    let within = |decoded: u64, what: &str, read: &dyn Fn()| {
        read();
        let now = peak().unwrap();
        let used = now.saturating_sub(before);
        println!("{what}: {:.2} of the decoded size", used as f64 / decoded as f64);
        assert!(used < 4 * decoded, "{what}: {used} bytes for {decoded}");
    };
    within(voxels, "a scribble along other axes", &|| {
        drop(scribseg_io::read_scribble(folder.join("labels.nii.gz"), &grid, &mapping).unwrap());
    });
    within(4 * voxels, "an image along other axes", &|| {
        drop(Volume::read(folder.join("other.nii.gz")).unwrap())
    });
    let cohort = scribseg_io::Cohort::open(folder.join("case"), None).unwrap();
    within(16 * voxels, "a case", &|| drop(cohort.cases[0].load().unwrap()));
}
