//! Contact sheets: many pictures on one, for looking at.

use seedfarm_core::limits;

use crate::error::PictureError;
use crate::picture::Picture;

/// The ground: a light warm grey.
const GROUND: [u8; 3] = [0xf4, 0xf3, 0xf0];

/// Most pictures on one sheet.
const MAX_PICTURES: usize = 1024;

/// Lays pictures out in a grid, about as wide as high, in the order given, on a light ground.
///
/// Every cell is as large as the largest picture, and smaller pictures stand in the middle of theirs.
/// Where the sheet would pass [`limits::MAX_SIDE`], all pictures are scaled down by the same whole number.
pub fn contact_sheet(pictures: &[Picture]) -> Result<Picture, PictureError> {
    if pictures.is_empty() {
        return Err(PictureError::EmptySheet);
    }
    if pictures.len() > MAX_PICTURES {
        return Err(PictureError::SheetTooLarge { given: pictures.len(), most: MAX_PICTURES });
    }
    let grid = Grid::new(pictures);
    let (width, height) = grid.sheet();
    let mut sheet = Canvas::new(width, height);
    for (index, picture) in (0..).zip(pictures) {
        let small = shrink(picture, grid.factor);
        let (x, y) = grid.place(index, &small);
        sheet.paste(&small, x, y);
    }
    Picture::new(width, height, sheet.rgb)
}

/// Where things lie, in pixels of the sheet.
struct Grid {
    columns: u32,
    rows: u32,
    cell: (u32, u32),
    gap: u32,
    factor: u32,
}

impl Grid {
    fn new(pictures: &[Picture]) -> Self {
        let count = u32::try_from(pictures.len()).expect("at most MAX_PICTURES");
        let columns = (f64::from(count).sqrt().ceil() as u32).max(1);
        let rows = count.div_ceil(columns);
        let widest = pictures.iter().map(Picture::width).max().unwrap_or(1);
        let highest = pictures.iter().map(Picture::height).max().unwrap_or(1);
        let with = |factor: u32| {
            let cell = (widest.div_ceil(factor), highest.div_ceil(factor));
            Self { columns, rows, cell, gap: (cell.0.min(cell.1) / 12).max(4), factor }
        };
        let fits = |grid: &Self| grid.sheet().0.max(grid.sheet().1) <= limits::MAX_SIDE;
        (1..=limits::MAX_SIDE).map(with).find(fits).expect("1024 pictures of one pixel fit on a sheet")
    }

    fn sheet(&self) -> (u32, u32) {
        let side = |cells: u32, size: u32| cells * (size + self.gap) + self.gap;
        (side(self.columns, self.cell.0), side(self.rows, self.cell.1))
    }

    fn place(&self, index: u32, picture: &Small) -> (u32, u32) {
        let (column, row) = (index % self.columns, index / self.columns);
        let x = self.gap + column * (self.cell.0 + self.gap) + (self.cell.0 - picture.width) / 2;
        let y = self.gap + row * (self.cell.1 + self.gap) + (self.cell.1 - picture.height) / 2;
        (x, y)
    }
}

/// A picture as it appears on the sheet.
struct Small {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Scales down by averaging squares of `factor` x `factor` pixels; those at the edges may be cut.
fn shrink(picture: &Picture, factor: u32) -> Small {
    let (width, height) = (picture.width().div_ceil(factor), picture.height().div_ceil(factor));
    if factor == 1 {
        return Small { width, height, rgb: picture.rgb().to_vec() };
    }
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            rgb.extend(average(picture, x * factor, y * factor, factor));
        }
    }
    Small { width, height, rgb }
}

fn average(picture: &Picture, left: u32, top: u32, factor: u32) -> [u8; 3] {
    let (right, bottom) = ((left + factor).min(picture.width()), (top + factor).min(picture.height()));
    let mut sums = [0u32; 3];
    for y in top..bottom {
        let start = (y as usize * picture.width() as usize + left as usize) * 3;
        let row = &picture.rgb()[start..start + (right - left) as usize * 3];
        for pixel in row.chunks_exact(3) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
        }
    }
    let count = (right - left) * (bottom - top);
    sums.map(|sum| u8::try_from((sum + count / 2) / count).expect("an average of bytes is a byte"))
}

struct Canvas {
    width: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self { width: width as usize, rgb: GROUND.repeat(width as usize * height as usize) }
    }

    fn paste(&mut self, picture: &Small, x: u32, y: u32) {
        let length = picture.width as usize * 3;
        for (row, pixels) in picture.rgb.chunks_exact(length).enumerate() {
            let start = ((y as usize + row) * self.width + x as usize) * 3;
            self.rgb[start..start + length].copy_from_slice(pixels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, value: u8) -> Picture {
        Picture::new(width, height, vec![value; (width * height * 3) as usize]).unwrap()
    }

    fn at(sheet: &Picture, x: u32, y: u32) -> [u8; 3] {
        let start = ((y * sheet.width() + x) * 3) as usize;
        sheet.rgb()[start..start + 3].try_into().unwrap()
    }

    #[test]
    fn pictures_stand_in_order_with_gaps_between() {
        let sheet = contact_sheet(&[plain(48, 48, 1), plain(48, 48, 2), plain(48, 48, 3)]).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (108, 108));
        assert_eq!([at(&sheet, 0, 0), at(&sheet, 53, 10), at(&sheet, 100, 100)], [GROUND; 3]);
        assert_eq!([at(&sheet, 4, 4), at(&sheet, 56, 4), at(&sheet, 4, 56)], [[1; 3], [2; 3], [3; 3]]);
    }

    #[test]
    fn a_sheet_of_large_pictures_is_scaled_to_the_limit() {
        let mut half = vec![0; 2048 * 1024 * 3];
        half[2048 * 512 * 3..].fill(200);
        let pictures = vec![Picture::new(2048, 1024, half).unwrap(); 9];
        let sheet = contact_sheet(&pictures).unwrap();
        assert!(sheet.width() <= limits::MAX_SIDE && sheet.height() <= limits::MAX_SIDE);
        assert_eq!((at(&sheet, 100, 100), at(&sheet, 100, 450)), ([0; 3], [200; 3]));
    }

    #[test]
    fn a_sheet_of_nothing_is_refused() {
        assert!(matches!(contact_sheet(&[]), Err(PictureError::EmptySheet)));
    }
}
