//! Segmentations of 3D Slicer (`.seg.nrrd`): label images in NRRD, which carry the names of their segments.
//!
//! Read is what Slicer writes: an attached header, raw or gzip, three spatial axes, and before them a list axis when segments
//! overlap and take several layers. The world is NRRD's LPS, RAS or LAS; a header that names none says nothing about left
//! and right and is refused. After <https://teem.sourceforge.net/nrrd/format.html> and Slicer's documentation of `.seg.nrrd`.

use crate::error::{Error, Result};
use crate::file::{Codes, Coding, Odd, buffer};
use crate::geometry::{Geometry, TOLERANCE_MM, inverse};
use crate::header::Scalar;
use crate::scribbles::{ScribbleMapping, code_of_name, code_word};
use crate::stream::{self, CHUNK, Stream};
use crate::volume::all_declared;
use ndarray::{Array3, s};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::Path;

/// No header of Slicer's comes near.
const LONGEST_HEADER: u64 = 1 << 20;

/// Layers of overlapping segments; Slicer makes as many as it needs, seldom more than a few.
const MOST_LAYERS: usize = 256;

/// A header's fields and keys.
struct Header<'a> {
    path: &'a Path,
    /// In lower case.
    fields: BTreeMap<String, String>,
    keys: BTreeMap<String, String>,
}

/// A segment: its name, the value it has in the file, and the layer that it lies in.
struct Segment {
    name: String,
    value: i64,
    layer: usize,
}

/// Reads a scribble on `grid`: 0 unknown, 1 tumour, 2 healthy. Segments count by their names, when any has a name that
/// says what it is; else, as in any other label image, by their values.
///
/// The image may cover a part of the grid only, or reach beyond it with nothing drawn there: Slicer may be told to store
/// what is drawn on alone.
pub(crate) fn read_scribble(path: &Path, grid: &Geometry, mapping: &ScribbleMapping) -> Result<Array3<u8>> {
    let (mut file, length) = stream::open(path)?;
    let (header, used) = Header::read(&mut file, path)?;
    let scalar = header.scalar()?;
    let little_endian = header.is_little_endian(scalar)?;
    let compressed = header.is_compressed()?;
    let (layers, geometry) = header.geometry()?;
    let (maps, declared) = meaning(&header.segments(layers)?, layers, mapping);

    let mut stream = Stream::new(path, file, length.saturating_sub(used), compressed);
    let per_voxel = layers * scalar.bytes();
    let expected =
        geometry.file_shape().iter().fold(per_voxel as u64, |bytes, &n| bytes.saturating_mul(n as u64));
    if expected > stream.limit {
        return Err(Error::Truncated { path: path.to_path_buf(), expected, found: stream.limit });
    }
    let offset = offset_in(&geometry, grid).map_err(|mismatch| Error::GridMismatch {
        path: path.to_path_buf(),
        reference: "the scan".into(),
        mismatch,
    })?;
    let geometry = geometry.along(grid);

    let coding = Coding { scalar, little_endian, scaling: None };
    let mut codes: Vec<Codes<'_>> = maps.iter().map(Codes::new).collect();
    let (mut odd, mut both) = (Odd::default(), 0_u64);
    let voxels = geometry.voxels();
    let mut out = buffer(Some(voxels), path)?;
    let per_chunk = (CHUNK / per_voxel).max(1);
    let mut bytes = vec![0; per_chunk * per_voxel];
    let (mut labels, mut values) = (vec![0; per_chunk * layers], vec![0_u8; per_chunk]);
    for at in (0..voxels).step_by(per_chunk) {
        let count = per_chunk.min(voxels - at);
        let bytes = bytes.get_mut(..count * per_voxel).unwrap_or_default();
        if stream.fill(bytes)? < bytes.len() {
            return Err(Error::Truncated { path: path.to_path_buf(), expected, found: stream.position });
        }
        let labels = labels.get_mut(..count * layers).unwrap_or_default();
        coding.labels(at * layers, bytes, labels, &mut odd);
        let values = values.get_mut(..count).unwrap_or_default();
        for (value, labels) in values.iter_mut().zip(labels.chunks(layers)) {
            *value = 0;
            for (&label, codes) in labels.iter().zip(&mut codes) {
                match (*value, codes.code(label)) {
                    (_, 0) => {}
                    (0, code) => *value = code,
                    (one, other) => both += u64::from(one != other),
                }
            }
        }
        geometry.scatter(at, values, &mut out);
    }
    stream.finish()?;
    if odd.count > 0 {
        let ([i, j, _], n) = (geometry.file_shape(), odd.first / layers);
        let first = [n % i, n / i % j, n / (i * j)];
        return Err(Error::NonInteger {
            path: path.to_path_buf(),
            count: odd.count,
            first,
            value: odd.value,
        });
    }
    let mut undeclared = BTreeMap::new();
    for (value, count) in codes.into_iter().flat_map(|codes| codes.undeclared) {
        *undeclared.entry(value).or_insert(0) += count;
    }
    all_declared(undeclared, path, || declared)?;
    if both > 0 {
        return Err(Error::Overlap { path: path.to_path_buf(), count: both });
    }
    let out = Array3::from_shape_vec(geometry.shape(), out)
        .map_err(|_| Error::OutOfMemory { path: path.to_path_buf(), bytes: voxels as u64 })?;
    onto(out, offset, grid, path)
}

/// Per layer, from value to code; and what was declared, in words.
fn meaning(
    segments: &[Segment],
    layers: usize,
    mapping: &ScribbleMapping,
) -> (Vec<BTreeMap<i64, u8>>, String) {
    let by_name = segments.iter().any(|segment| code_of_name(&segment.name).is_some());
    if segments.is_empty() || !by_name && layers == 1 {
        return (vec![mapping.values().clone(); layers], mapping.describe());
    }
    let mut maps = vec![BTreeMap::from([(0, 0)]); layers];
    let mut words = Vec::new();
    for Segment { name, value, layer } in segments {
        let code = if by_name { code_of_name(name) } else { mapping.values().get(value).copied() };
        if let (Some(code), Some(map)) = (code, maps.get_mut(*layer)) {
            map.insert(*value, code);
        }
        let meaning = code.map_or("of no known name; call it `tumour` or `healthy`", code_word);
        words.push(format!("segment {name:?} ({value}): {meaning}"));
    }
    (maps, words.join(", "))
}

impl<'a> Header<'a> {
    /// Reads up to the empty line before the data; and how many bytes that took.
    fn read(file: &mut impl BufRead, path: &'a Path) -> Result<(Self, u64)> {
        let mut header = Self { path, fields: BTreeMap::new(), keys: BTreeMap::new() };
        let mut file = file.take(LONGEST_HEADER);
        let mut used = 0;
        loop {
            let mut line = Vec::new();
            let read = file.read_until(b'\n', &mut line);
            used += read.map_err(|source| Error::Read { path: path.to_path_buf(), source })? as u64;
            let ended = line.ends_with(b"\n");
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if used == line.len() as u64 && !text.starts_with("NRRD000") {
                let start = text.chars().take(16).collect::<String>();
                let found = format!("a file that starts with {start:?}");
                return Err(Error::NotNrrd { path: path.to_path_buf(), found });
            }
            if text.is_empty() && ended {
                return Ok((header, used));
            }
            if !ended {
                return Err(header.bad("the header", "ending with an empty line", "none"));
            }
            if text.starts_with('#') {
                continue;
            }
            if let Some((key, value)) = text.split_once(":=") {
                header.keys.insert(key.to_string(), value.replace("\\n", "\n").replace("\\\\", "\\"));
            } else if let Some((field, value)) = text.split_once(':') {
                header.fields.insert(field.trim().to_ascii_lowercase(), value.trim().to_string());
            }
        }
    }

    fn bad(&self, field: &str, expected: &str, found: impl Into<String>) -> Error {
        Error::BadHeader {
            path: self.path.to_path_buf(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn field(&self, name: &str) -> Result<&str> {
        self.fields.get(name).map(String::as_str).ok_or_else(|| self.bad(name, "in the header", "none"))
    }

    fn scalar(&self) -> Result<Scalar> {
        let name = self.field("type")?;
        Ok(match name {
            "signed char" | "int8" | "int8_t" => Scalar::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => Scalar::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Scalar::I16,
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Scalar::U16,
            "int" | "signed int" | "int32" | "int32_t" => Scalar::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => Scalar::U32,
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => Scalar::I64,
            "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => {
                Scalar::U64
            }
            "float" => Scalar::F32,
            "double" => Scalar::F64,
            _ => return Err(self.bad("type", "a number of 8 to 64 bits", name)),
        })
    }

    fn is_little_endian(&self, scalar: Scalar) -> Result<bool> {
        match self.fields.get("endian").map(String::as_str) {
            None if scalar.bytes() == 1 => Ok(true),
            Some("little") => Ok(true),
            Some("big") => Ok(false),
            other => Err(self.bad("endian", "little or big", other.unwrap_or("none"))),
        }
    }

    fn is_compressed(&self) -> Result<bool> {
        for (field, name) in [("data file", "data file"), ("datafile", "data file")] {
            if let Some(found) = self.fields.get(field) {
                return Err(self.bad(name, "to be absent: header and data in one file", found));
            }
        }
        for field in ["line skip", "lineskip", "byte skip", "byteskip"] {
            if let Some(found) = self.fields.get(field).filter(|found| *found != "0") {
                return Err(self.bad(field, "to be 0", found));
            }
        }
        match self.field("encoding")? {
            "raw" => Ok(false),
            "gzip" | "gz" => Ok(true),
            other => Err(self.bad("encoding", "raw or gzip", other)),
        }
    }

    /// The number of layers, and the grid.
    fn geometry(&self) -> Result<(usize, Geometry)> {
        let text = self.field("sizes")?;
        let sizes: Vec<usize> = text.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let rank = text.split_whitespace().count();
        if sizes.len() != rank || sizes.contains(&0) || self.field("dimension")? != rank.to_string() {
            return Err(self.bad("sizes", "one above 0 for each of `dimension` axes", text));
        }
        let (layers, shape) = match *sizes.as_slice() {
            [i, j, k] => (1, [i, j, k]),
            [layers @ ..=MOST_LAYERS, i, j, k] => (layers, [i, j, k]),
            _ => return Err(self.bad("sizes", "three axes, or a list of layers and three axes", text)),
        };
        if let Some(kinds) = self.fields.get("kinds") {
            let list = ["list", "domain", "domain", "domain"];
            let known = kinds.split_whitespace().map(|kind| if kind == "space" { "domain" } else { kind });
            if !known.eq(list.into_iter().skip(4 - rank)) {
                return Err(self.bad("kinds", "[list] domain domain domain", kinds));
            }
        }
        // From the file's world to RAS.
        let space = self.field("space")?;
        let signs = match space.to_ascii_lowercase().as_str() {
            "left-posterior-superior" | "lps" => [-1.0, -1.0, 1.0],
            "right-anterior-superior" | "ras" => [1.0, 1.0, 1.0],
            "left-anterior-superior" | "las" => [-1.0, 1.0, 1.0],
            _ => return Err(self.bad("space", "LPS, RAS or LAS, which say where left is", space)),
        };
        let text = self.field("space directions")?;
        let mut directions = text.split_whitespace().collect::<String>();
        if let Some(rest) = directions.strip_prefix("none").filter(|_| rank == 4) {
            directions = rest.to_string();
        }
        let axes = vectors(&directions);
        let origin_text = self.field("space origin")?;
        let origin = vectors(&origin_text.split_whitespace().collect::<String>());
        let ([x, y, z], [origin]) = (axes.as_slice(), origin.as_slice()) else {
            let found = format!("{text} and {origin_text}");
            return Err(self.bad("space directions and origin", "three vectors and one", found));
        };
        let mut affine = [[0.0, 0.0, 0.0, 1.0]; 4];
        for (row, sign) in signs.into_iter().enumerate() {
            affine[row] = [x[row], y[row], z[row], origin[row]].map(|v| sign * v);
        }
        let geometry = Geometry::from_affine(shape, &affine).ok_or_else(|| {
            self.bad("space directions", "three independent directions, voxels of 0.1 to 20 mm", text)
        })?;
        Ok((layers, geometry))
    }

    fn segments(&self, layers: usize) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for n in 0.. {
            let key = |what: &str| self.keys.get(&format!("Segment{n}_{what}")).map(String::as_str);
            let Some(name) = key("Name").or(key("ID")) else { break };
            let number = |what: &str| -> Result<Option<i64>> {
                let Some(text) = key(what) else { return Ok(None) };
                let number = text.trim().parse();
                number.map(Some).map_err(|_| self.bad(&format!("Segment{n}_{what}"), "a whole number", text))
            };
            // Slicer 4 gave every segment a layer of its own and the value 1, and wrote neither down.
            let (value, layer) = match (number("LabelValue")?, number("Layer")?) {
                (Some(value), layer) => (value, layer.unwrap_or(0)),
                (None, None) if layers > 1 || n == 0 => (1, n),
                _ => return Err(self.bad(&format!("Segment{n}_LabelValue"), "in the header", "none")),
            };
            let layer = usize::try_from(layer).ok().filter(|layer| *layer < layers).ok_or_else(|| {
                self.bad(&format!("Segment{n}_Layer"), &format!("below {layers}"), layer.to_string())
            })?;
            segments.push(Segment { name: name.to_string(), value, layer });
        }
        Ok(segments)
    }
}

/// `(a,b,c)(d,e,f)`, blanks taken out, as vectors; as far as that is what it is.
fn vectors(text: &str) -> Vec<[f64; 3]> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or_default();
    let vector = |text: &str| -> Option<[f64; 3]> {
        let numbers: Vec<f64> = text.split(',').map_while(|n| n.parse().ok()).collect();
        numbers.try_into().ok()
    };
    inner.split(")(").map_while(vector).collect()
}

/// Where the first voxel (in canonical order) of `part` lies on the lattice of `grid`: `[z, y, x]`, which may be outside.
/// An error names the first difference that no shift by whole voxels explains.
fn offset_in(part: &Geometry, grid: &Geometry) -> std::result::Result<[i64; 3], crate::geometry::Mismatch> {
    let (Err(mismatch), part) = (grid.same_grid(part), part.along(grid)) else { return Ok([0; 3]) };
    let (ours, theirs) = (grid.canonical_affine(), part.canonical_affine());
    for row in 0..3 {
        for column in 0..3 {
            if (ours[row][column] - theirs[row][column]).abs() > TOLERANCE_MM {
                return Err(mismatch);
            }
        }
    }
    let matrix = std::array::from_fn(|r| [0, 1, 2].map(|c| ours[r][c]));
    let Some(inverse) = inverse(&matrix) else { return Err(mismatch) };
    let moved: [f64; 3] = std::array::from_fn(|r| theirs[r][3] - ours[r][3]);
    let mut offset = [0; 3];
    for axis in 0..3 {
        let steps: f64 = (0..3).map(|c| inverse[axis][c] * moved[c]).sum();
        let whole = steps.round();
        // In mm; beyond 10⁶ voxels nothing of it can lie on the scan.
        if (steps - whole).abs() * grid.spacing()[2 - axis] > TOLERANCE_MM || whole.abs() > 1e6 {
            return Err(mismatch);
        }
        offset[2 - axis] = whole as i64;
    }
    Ok(offset)
}

/// A part laid onto the whole grid. What is drawn outside it is an error.
fn onto(part: Array3<u8>, offset: [i64; 3], grid: &Geometry, path: &Path) -> Result<Array3<u8>> {
    let shape = grid.shape();
    if offset == [0; 3] && part.shape() == shape {
        return Ok(part);
    }
    // Per axis: the range on the grid, and the same on the part.
    let mut ranges = [(0..0, 0..0), (0..0, 0..0), (0..0, 0..0)];
    for axis in 0..3 {
        let start = offset[axis].clamp(0, shape[axis] as i64);
        let end = (offset[axis] + part.shape()[axis] as i64).clamp(start, shape[axis] as i64);
        ranges[axis] = (start as usize..end as usize, 0..0);
        if end > start {
            ranges[axis].1 = (start - offset[axis]) as usize..(end - offset[axis]) as usize;
        }
    }
    let [(z, pz), (y, py), (x, px)] = ranges;
    let mut out: Array3<u8> = Array3::from_shape_vec(shape, buffer(Some(grid.voxels()), path)?)
        .map_err(|_| Error::OutOfMemory { path: path.to_path_buf(), bytes: grid.voxels() as u64 })?;
    let inside = part.slice(s![pz, py, px]);
    let drawn = |labels: ndarray::ArrayView3<'_, u8>| labels.iter().filter(|&&label| label != 0).count();
    let lost = drawn(part.view()) - drawn(inside);
    if inside.len() == z.len() * y.len() * x.len() {
        out.slice_mut(s![z, y, x]).assign(&inside);
    }
    if lost > 0 {
        return Err(Error::OutsideScan { path: path.to_path_buf(), count: lost as u64 });
    }
    Ok(out)
}
