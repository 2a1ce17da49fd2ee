//! Normal densities in the few dimensions of [`super::points`], by their Cholesky factor.

/// Features of a voxel: see [`super::points`].
pub(crate) const D: usize = 7;
/// A voxel's features.
pub(crate) type Vector = [f64; D];
/// A covariance.
pub(crate) type Matrix = [[f64; D]; D];

/// Least pivot of a factor: a covariance that is all but singular counts as one that is this wide where it is flat.
const LEAST_PIVOT: f64 = 1e-9;

/// `a + scale · b`.
pub(crate) fn plus(a: &Matrix, scale: f64, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][j] + scale * b[i][j]))
}

/// `a · v`.
pub(crate) fn times(a: &Matrix, v: &Vector) -> Vector {
    std::array::from_fn(|i| a[i].iter().zip(v).map(|(a, v)| a * v).sum())
}

/// The lower Cholesky factor L of a covariance S = L·Lᵀ, and whether none of its pivots had to be raised.
fn factor(covariance: &Matrix) -> (Matrix, bool) {
    let (mut l, mut definite) = ([[0.0; D]; D], true);
    for i in 0..D {
        for j in 0..=i {
            let rest: f64 = covariance[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            definite &= i != j || rest > LEAST_PIVOT;
            l[i][j] = if i == j { rest.max(LEAST_PIVOT).sqrt() } else { rest / l[j][j] };
        }
    }
    (l, definite)
}

/// The inverse L⁻¹ of the [`factor`] of a covariance, and log det L.
fn inverse_factor(covariance: &Matrix) -> (Matrix, f64) {
    let (l, _) = factor(covariance);
    let mut inverse = [[0.0; D]; D];
    for (i, row) in l.iter().enumerate() {
        inverse[i] = std::array::from_fn(|j| {
            let unit = if i == j { 1.0 } else { 0.0 };
            (unit - (j..i).map(|k| row[k] * inverse[k][j]).sum::<f64>()) / row[i]
        });
    }
    (inverse, (0..D).map(|i| l[i][i].ln()).sum())
}

/// Whether a matrix is symmetric (to the six digits of a table) and positive definite.
pub(crate) fn is_covariance(matrix: &Matrix) -> bool {
    let symmetric = (0..D).all(|i| {
        (0..i)
            .all(|j| (matrix[i][j] - matrix[j][i]).abs() <= 1e-4 * (matrix[i][i] * matrix[j][j]).abs().sqrt())
    });
    symmetric && factor(matrix).1
}

/// The inverse of a covariance.
pub(crate) fn inverse(covariance: &Matrix) -> Matrix {
    let (factor, _) = inverse_factor(covariance);
    std::array::from_fn(|i| std::array::from_fn(|j| (i.max(j)..D).map(|k| factor[k][i] * factor[k][j]).sum()))
}

/// The log of a covariance's determinant.
#[cfg(test)]
pub(crate) fn log_determinant(covariance: &Matrix) -> f64 {
    2.0 * inverse_factor(covariance).1
}

/// A normal density.
#[derive(Debug, Clone)]
pub(crate) struct Gaussian {
    mean: Vector,
    /// L⁻¹.
    factor: Matrix,
    /// log det L.
    log_det: f64,
}

impl Gaussian {
    pub(crate) fn new(mean: Vector, covariance: &Matrix) -> Self {
        let (factor, log_det) = inverse_factor(covariance);
        Self { mean, factor, log_det }
    }

    /// log N(x; mean, S) without the constant −D/2 · log 2π, which all densities share.
    pub(crate) fn log_density(&self, x: &Vector) -> f64 {
        let mut squares = 0.0;
        for (i, row) in self.factor.iter().enumerate() {
            let y: f64 = (0..=i).map(|j| row[j] * (x[j] - self.mean[j])).sum();
            squares += y * y;
        }
        -0.5 * squares - self.log_det
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covariance() -> Matrix {
        // A·Aᵀ + I/2 of a fixed, unruly A.
        let a: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| ((3 * i + 5 * j) as f64).sin()));
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (0..D).map(|k| a[i][k] * a[j][k]).sum::<f64>() + if i == j { 0.5 } else { 0.0 }
            })
        })
    }

    #[test]
    fn an_inverse_undoes_its_matrix() {
        let (s, inverse) = (covariance(), inverse(&covariance()));
        for (j, column) in inverse.iter().enumerate() {
            // Both are symmetric.
            for (i, value) in times(&s, column).into_iter().enumerate() {
                assert!((value - if i == j { 1.0 } else { 0.0 }).abs() < 1e-10, "{i} {j} {value}");
            }
        }
    }

    #[test]
    fn a_density_falls_with_the_squared_distance_in_its_own_metric() {
        let (s, mean) = (covariance(), [0.3, -1.0, 2.0, 0.0, 0.5, 1.0, -0.2]);
        let density = Gaussian::new(mean, &s);
        let x: Vector = std::array::from_fn(|i| mean[i] + (i as f64 - 2.5) * 0.4);
        let away: Vector = std::array::from_fn(|i| x[i] - mean[i]);
        let squared: f64 = times(&inverse(&s), &away).iter().zip(&away).map(|(a, b)| a * b).sum();
        assert!((density.log_density(&mean) - density.log_density(&x) - 0.5 * squared).abs() < 1e-9);
        assert!((density.log_density(&mean) + 0.5 * log_determinant(&s)).abs() < 1e-12);
    }

    #[test]
    fn a_flat_covariance_has_a_finite_density() {
        let density = Gaussian::new([0.0; D], &[[0.0; D]; D]);
        assert!(density.log_density(&[0.0; D]).is_finite());
    }
}
