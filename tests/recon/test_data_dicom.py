"""DICOM files written here and read back; the real head of pydicom; what must be refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from recon.data import example_head, read_dicom

STORED = np.arange(-2000, -2000 + 6 * 5 * 130, 130, dtype=np.int16).reshape(6, 5)


def write(path, stored=STORED, syntax=ExplicitVRLittleEndian, drop=(), **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = "Somebody^Known", "4711"
    data.Modality, data.KVP, data.PixelSpacing = "CT", "120", ["0.7", "0.7"]
    data.Rows, data.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * stored.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    for name in drop:
        delattr(data, name)
    if syntax != ExplicitVRLittleEndian:
        data.compress(syntax)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "slice.dcm"


def test_slope_and_intercept_give_hu(file):
    image = read_dicom(write(file, RescaleSlope="0.5", RescaleIntercept="-200"))
    expected = np.maximum(0.5 * STORED.astype(float) - 200, -1000)
    np.testing.assert_array_equal(image.hu.numpy(), expected.astype(np.float32))
    assert image.hu.dtype == torch.float32 and image.hu.shape == (6, 5)
    assert (image.pixel_size, image.spacing, image.modality, image.kvp) == (0.7, (0.7, 0.7), "CT", 120.0)


def test_without_a_rescaling_values_are_those_stored(file):
    np.testing.assert_array_equal(read_dicom(write(file)).hu.numpy(), np.maximum(STORED, -1000))


def test_unsigned_pixels(file):
    stored = (STORED.astype(np.int32) + 3000).astype(np.uint16)
    image = read_dicom(write(file, stored, RescaleSlope="1", RescaleIntercept="-3000"))
    np.testing.assert_array_equal(image.hu.numpy(), np.maximum(STORED, -1000))


def test_twelve_stored_bits_of_sixteen(file):
    stored = (np.arange(30, dtype=np.uint16) * 136).reshape(6, 5)
    image = read_dicom(
        write(file, stored, BitsStored=12, HighBit=11, RescaleSlope="1", RescaleIntercept="-1000")
    )
    np.testing.assert_array_equal(image.hu.numpy(), stored.astype(np.float32) - 1000)


def test_monochrome1_leaves_hu_as_they_are(file):
    # PS3.3 C.7.6.3.1.2: it says how to show the values after rescaling, not what they are
    image = read_dicom(write(file, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(image.hu.numpy(), np.maximum(STORED, -1000))


@pytest.mark.parametrize("dtype, bits, total", [(np.uint16, 12, 4095), (np.int16, 16, -1)])
def test_monochrome1_is_turned_round_elsewhere(file, dtype, bits, total):
    stored = (np.arange(30) * 100).reshape(6, 5).astype(dtype)
    tags = dict(Modality="MR", PhotometricInterpretation="MONOCHROME1", BitsStored=bits, HighBit=bits - 1)
    image = read_dicom(write(file, stored, **tags, RescaleSlope="2", RescaleIntercept="5"))
    np.testing.assert_array_equal(image.hu.numpy(), 2 * (total - stored.astype(float)) + 5)


@pytest.mark.parametrize("limit, padded", [(None, [-2000]), (-1740, [-2000, -1870, -1740])])
def test_padding_is_air(file, limit, padded):
    tags = {"PixelPaddingValue": -2000} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    image = read_dicom(write(file, **tags, RescaleSlope="1", RescaleIntercept="1500"))
    expected = np.where(np.isin(STORED, padded), -1000.0, STORED + 1500.0)
    np.testing.assert_array_equal(image.hu.numpy(), expected)


def test_padding_in_the_middle_of_the_range_is_air_too(file):
    image = read_dicom(write(file, PixelPaddingValue=340))
    np.testing.assert_array_equal(image.hu.numpy(), np.where(STORED == 340, -1000, np.maximum(STORED, -1000)))


def test_padding_of_other_modalities_is_the_smallest_value(file):
    stored = np.array([[9, 4, 0], [7, 0, 5]], np.uint16)
    image = read_dicom(write(file, stored, Modality="MR", PixelPaddingValue=0))
    assert image.hu.tolist() == [[9, 4, 4], [7, 4, 5]]


def test_several_frames(file):
    stored = np.stack([STORED, STORED + 7])
    image = read_dicom(write(file, stored, RescaleSlope="1", RescaleIntercept="1500"))
    np.testing.assert_array_equal(image.hu.numpy(), np.maximum(stored + 1500.0, -1000))


def test_enhanced_files_rescale_frame_by_frame(file):
    def frame(slope, intercept):
        values, measures, group = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, intercept, "HU"
        measures.PixelSpacing = ["0.9", "0.9"]
        group.PixelValueTransformationSequence = Sequence([values])
        group.PixelMeasuresSequence = Sequence([measures])
        return group

    groups = Sequence([frame("1", "1500"), frame("2", "3500")])
    stored = np.stack([STORED, STORED])
    path = write(file, stored, PerFrameFunctionalGroupsSequence=groups, drop=["PixelSpacing"])
    image = read_dicom(path)
    np.testing.assert_array_equal(
        image.hu.numpy(), np.maximum(np.stack([STORED + 1500.0, 2 * STORED + 3500.0]), -1000)
    )
    assert image.pixel_size == 0.9


def test_compressed_pixels_are_decoded(file):
    image = read_dicom(write(file, syntax=RLELossless, RescaleSlope="1", RescaleIntercept="1500"))
    np.testing.assert_array_equal(image.hu.numpy(), np.maximum(STORED + 1500.0, -1000))


def test_attenuation_is_that_of_hu(file):
    image = read_dicom(write(file, np.array([[-1000, 0], [1000, -3000]], np.int16)))
    expected = torch.tensor([[0.0, 0.02], [0.04, 0.0]])
    torch.testing.assert_close(image.attenuation(mu_water=0.02), expected)
    with pytest.raises(ValueError, match="mu_water"):
        image.attenuation(0.0)
    with pytest.raises(ValueError, match="modality 'MR'"):
        read_dicom(write(file, Modality="MR")).attenuation()


def test_nothing_of_the_patient_is_kept(file):
    assert not any(word in repr(vars(read_dicom(write(file)))) for word in ("Somebody", "4711"))


def test_the_example_head_is_a_head():
    head = example_head()
    hu = 1000 * (head / 0.0206 - 1)
    assert head.shape == (512, 512) and head.dtype == torch.float32
    assert float(head.min()) == 0 and float(hu.max()) == pytest.approx(1896, abs=0.1)
    assert 25 < float(hu[330:350, 240:272].mean()) < 45
    torch.testing.assert_close(example_head(mu_water=0.02), head * (0.02 / 0.0206))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def without_meta(path):
    path.write_bytes(b"nothing of the kind" * 20)


def headless(path):
    path.write_bytes(path.read_bytes()[:300])


def in_a_syntax_nobody_decodes(path):
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.HEVCMP51
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    "damage, message",
    [
        (truncated, "truncated"),
        (without_meta, "not a DICOM file"),
        (headless, "truncated"),
        (in_a_syntax_nobody_decodes, "decodes"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_damaged_files_are_refused(file, damage, message):
    write(file)
    damage(file)
    with pytest.raises(ValueError, match=message) as error:
        read_dicom(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    "tags, drop, message",
    [
        ({}, ["PixelData"], "without pixel data"),
        ({}, ["PixelSpacing"], "PixelSpacing"),
        ({"PixelSpacing": ["0.7", "0.8"]}, [], "square"),
        ({"PixelSpacing": ["0", "0"]}, [], "positive"),
        ({"RescaleSlope": "0"}, [], "RescaleSlope"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, [], "colour"),
    ],
)
def test_files_that_do_not_say_enough_are_refused(file, tags, drop, message):
    with pytest.raises(ValueError, match=message) as error:
        read_dicom(write(file, drop=drop, **tags))
    assert str(file) in str(error.value)


def test_jpeg_2000_cut_short_is_refused(tmp_path):
    source = Path(pydicom.data.get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False))
    data = pydicom.dcmread(source)
    assert data.file_meta.TransferSyntaxUID == JPEG2000Lossless
    path = tmp_path / "cut.dcm"
    path.write_bytes(source.read_bytes()[:60_000])
    with pytest.raises(ValueError, match="truncated"):
        read_dicom(path)
