/// What can be wrong with a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The box has another number of sides than the array has axes.
    #[error("the box must have one side per array axis: expected {expected} sides, found {found}")]
    BoxLength {
        /// Axes of the array.
        expected: usize,
        /// Sides given.
        found: usize,
    },
    /// A side of the box is zero.
    #[error("the box has side 0 along axis {axis}; give at least 1, which leaves that axis alone")]
    EmptyBox {
        /// The axis at fault.
        axis: usize,
    },
    /// The spacing has another number of values than the array has axes.
    #[error("the spacing must have one value per array axis: expected {expected} values, found {found}")]
    SpacingLength {
        /// Axes of the array.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A spacing is zero, negative or not finite.
    #[error(
        "the spacing along axis {axis} must be a finite length above 0, found {value}; check the image header"
    )]
    Spacing {
        /// The axis at fault.
        axis: usize,
        /// The value found.
        value: f64,
    },
}
