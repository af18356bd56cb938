#include "ops/dequant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "tensor/gguf_blocks.h"

namespace baize {
namespace {

struct Vector {
  GgufType type;
  int k;
  uint64_t hash;   // FNV-1a of the f32 bytes
  float first[3];  // for people: the first weights
  std::string_view hex;
};

// Made by tests/formats/make_dequant_vectors.py with PyPI gguf.
constexpr Vector kVectors[] = {
    {GgufType::kF32,
     8,
     0xa981674114323b68,
     {-3.043513765830214e-39f, 3.4503425295881975e-35f, 1.5733810532368664e-27f},
     "14242180a1733706eb4ff912bf1b657f0fa95998ea532d533a73a85fb869e61d"},
    {GgufType::kF16,
     8,
     0x9b9be3857be885e5,
     {0.0038318634033203125f, -52.53125f, -1.9130859375f},
     "d91b91d2a7bfe8d36d4333520edf8907"},
    {GgufType::kBF16,
     8,
     0xaf673b83a4d78b1a,
     {3.209238430557093e-16f, -8.917311333789257e-13f, 5920.0f},
     "b9257babb945fb1cbd046ac5370c2bf2"},
    {GgufType::kQ4_0, 32, 0xc6de65550dcee630, {0.75f, -4.5f, -4.5f}, "003a49e2c23348df4abd744e5c8bbd04b85d"},
    {GgufType::kQ4_1,
     32,
     0xd2c285257761caa3,
     {10.949951171875f, 9.449951171875f, 8.699951171875f},
     "003acdb40fadcc557469c96f94eb69eebb600834"},
    {GgufType::kQ5_0, 32, 0x60d7da5ef20726e0, {-11.25f, -10.5f, -3.0f}, "003af0478aaed1b2bc0e5d9443c9d372a980672b694c"},
    {GgufType::kQ5_1,
     32,
     0x178b5b7896b76ab6,
     {21.449951171875f, -0.300048828125f, 12.449951171875f},
     "003acdb495e7c4cc0d400185b137cf812336624a8c72a281"},
    {GgufType::kQ8_0,
     32,
     0xc62186ba50502ce7,
     {-35.25f, -30.75f, 86.25f},
     "003ad1d7731f4dd81c1e0a749e6e2d5ea649fafaf93d76f3973b5eade3bb40669983"},
    {GgufType::kQ2_K,
     256,
     0xc5cc899654e967ce,
     {25.50048828125f, 14.25048828125f, 3.00048828125f},
     "af7c608eec4eae5081cfcdbd8d848932eacda4aca344d0f1a21228af4cb86ca57931bd761cefc7f748b0cd380b91185b32a714a4"
     "869a9ea79b376a1b18d58a299f7a35b1d71638d795b5a8a29ff5f9ee003acdb4"},
    {GgufType::kQ3_K,
     256,
     0x8f2c036918449e81,
     {31.5f, -31.5f, 31.5f},
     "ddb8b7d879d56661526f8207401198b63352951b81f7cd9ce4f1cb2b9e70e5f05b5573ad7b86defd8dafef9dd6d842b9c3044060"
     "4b6310cf8c29ea1c83292227694d3a5cebf97fb6742f497c50e9fdd8be7c05f109bbb666e573886c6bcba18d7e7b3da594b5bf7a"
     "2a3c249a003a"},
    {GgufType::kQ4_K,
     256,
     0xc83af1bc4a6475de,
     {5.700927734375f, 5.700927734375f, 5.700927734375f},
     "003acdb480473c0053bdbecab236916b3aa90d5af1cba5a1f3de64903a9c59ef61a18d9d931176ecc10d26948632cd53bfd99c52"
     "05ff25fd05f7049602770b300e8dacd4eda4c0d2372aff0262284228b5033db1998bb4671f3b50579f25cf12211bb6307c70a8db"
     "204701d5411c2cd465045e92413bc9239fc38c523673f086813efbfea68f1542c178648c2403e57d"},
    {GgufType::kQ5_K,
     256,
     0x761dd6bcd9033ecb,
     {58.952880859375f, 50.702880859375f, 116.702880859375f},
     "003acdb48bac7672bb381a4fd87fa80e1eb280beebe8b300407b16c372f9f531240b9fa45d067857dc6f7c3c56d798ed05b47c79"
     "ad3bc5e3589ca030581d027b093fda58b4236b7456a20c035e0ec0aacd1c41587d5cd7db9d6989361c215956186cb60b71f12ccb"
     "89c1b588530724666dbbc2ea4cea139846e5bcf6dca2cabc6d35e6951cf25880202cb33352aed6b02af979cae92283b24dfc9f69"
     "08637601daba09bce332000a8152cacdee5f2726"},
    {GgufType::kQ6_K,
     256,
     0x47dce0960ef5c660,
     {2065.5f, -1224.0f, 459.0f},
     "1b900631d2afd799756a2b2460d2d5e227c243c8df147959328b7e6674b4cc5d354f32bc1296af6aa4d213490ce12aaed41c3423"
     "b7b607c9f798346dfea0e2f0ae52de42bfe02d60d4eb35df7d27efb4ee84570a94537557abdc240429c8f1d256dda36a7ace0b3b"
     "6f52c0b92ec1fade1d44991aef934e81d625c45d7e25b0b97bc90aee5d4df5882fedc6bf2854ed5093ac7094bb918a7eb9691abb"
     "7c51ea0c1881893c8c8f010b4819a6fa32adab870787107d401b287a689d8908e17c48d5668627d881c12605de84079ffaef8f8e"
     "003a"},
    {GgufType::kIQ4_NL, 32, 0x91b83f1247c50746, {-16.5f, 9.75f, 66.75f}, "003a16990e567bb1896655866cf122d4d645"},
    {GgufType::kIQ4_XS,
     256,
     0xfdbf37a922b416ab,
     {1440.75f, -1619.25f, 484.5f},
     "003a4be6e143853fcfb04b5ddd12788deacd8256e38a21ac9ade2ad367c4ec30743e9e0e6eb288fde47d7782ebf717bf238fa4c2"
     "039790f441bd0b08c311404b4c5ed6fbc8bf887161dd866519a3ed420f73130551fbf30b065d08f9eaee4404b2bac423d4dd2a3f"
     "e2d8fa4889b37bdc976902534adce729a465ff64521b8bb0f0c08872d77dd73f"},
    {GgufType::kMXFP4, 32, 0xc4dc5155761b765c, {12288.0f, -8192.0f, 6144.0f}, "8a379e95b0948cadf2127761818a6c8053"},
};

std::vector<uint8_t> from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  return bytes;
}

uint64_t fnv1a(const void* data, size_t size) {
  uint64_t value = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; ++i) value = (value ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  return value;
}

TEST(Dequant, EqualsTheReferenceForEveryType) {
  for (const GgufTypeInfo& info : gguf_types()) {
    SCOPED_TRACE(info.name);
    const auto* v = std::ranges::find(kVectors, info.type, &Vector::type);
    ASSERT_NE(v, std::end(kVectors));
    const auto bytes = from_hex(v->hex);
    std::vector<float> out(static_cast<size_t>(v->k));
    dequantize_row(QuantFormat::gguf(info.type), bytes.data(), v->k, out.data());
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(out[i], v->first[i]);
    EXPECT_EQ(fnv1a(out.data(), out.size() * sizeof(float)), v->hash);
  }
}

TEST(Dequant, ReadsRowsOfSeveralBlocksAtAnyAlignment) {
  for (const Vector& v : kVectors) {
    const auto block = from_hex(v.hex);
    std::vector<uint8_t> row(1);  // an odd address
    for (int i = 0; i < 3; ++i) row.insert(row.end(), block.begin(), block.end());
    const QuantFormat format = QuantFormat::gguf(v.type);
    const auto k = static_cast<size_t>(v.k);
    std::vector<float> one(k), three(3 * k);
    dequantize_row(format, block.data(), v.k, one.data());
    dequantize_row(format, row.data() + 1, 3 * v.k, three.data());
    for (size_t i = 0; i < 3 * k; ++i) ASSERT_EQ(three[i], one[i % k]) << format.name() << " weight " << i;
  }
}

TEST(Dequant, ZeroWeightsWriteNothing) {
  float out = 7;
  dequantize_row(QuantFormat::gguf(GgufType::kQ4_K), nullptr, 0, &out);
  EXPECT_EQ(out, 7);
}

// By the definition of the format, in double precision (Micikevicius et al. 2022, "FP8 formats for deep learning").
double e4m3_value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double size = exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return code & 0x80 ? -size : size;
}

TEST(Fp8, EveryCodeHasItsValue) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_f32(static_cast<uint8_t>(code));
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    EXPECT_EQ(value, e4m3_value(code)) << code;
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
    EXPECT_EQ(f32_to_e4m3(value), code);
  }
}

TEST(Fp8, RoundsToTheNearestTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const double low = e4m3_value(code), high = e4m3_value(code + 1), middle = (low + high) / 2;
    const auto even = static_cast<uint8_t>(code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(f32_to_e4m3(static_cast<float>(middle)), even) << code;
    EXPECT_EQ(f32_to_e4m3(std::nextafter(static_cast<float>(middle), 0.0f)), code);
    EXPECT_EQ(f32_to_e4m3(std::nextafter(static_cast<float>(middle), 1000.0f)), code + 1);
    EXPECT_EQ(f32_to_e4m3(-static_cast<float>(middle)), even | 0x80) << code;
  }
  for (const float large : {449.0f, 464.0f, 1e30f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(f32_to_e4m3(large), 0x7e);
    EXPECT_EQ(f32_to_e4m3(-large), 0xfe);
  }
  EXPECT_EQ(f32_to_e4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7f, 0x7f);
}

TEST(Fp8, RowsHaveTheirScalesBehindThem) {
  for (const int group : {0, 128}) {
    for (const int64_t k : {1, 16, 100, 128, 300}) {
      const QuantFormat format = QuantFormat::fp8(group);
      const int64_t groups = group == 0 ? 1 : (k + 127) / 128;
      ASSERT_EQ(format.scales(k), groups);
      ASSERT_EQ(format.row_bytes(k), (k + 15) / 16 * 16 + (4 * groups + 15) / 16 * 16);
      std::vector<uint8_t> row(static_cast<size_t>(format.row_bytes(k)));
      for (int64_t i = 0; i < k; ++i) row[static_cast<size_t>(i)] = static_cast<uint8_t>(i * 37 % 127);
      for (int64_t g = 0; g < groups; ++g) {
        const float scale = 0.5f + static_cast<float>(g);
        std::memcpy(row.data() + QuantFormat::scales_offset(k) + 4 * g, &scale, sizeof(scale));
      }
      std::vector<float> out(static_cast<size_t>(k));
      dequantize_row(format, row.data(), k, out.data());
      for (int64_t i = 0; i < k; ++i) {
        const double scale = 0.5 + static_cast<double>(group == 0 ? 0 : i / group);
        ASSERT_EQ(out[static_cast<size_t>(i)], scale * e4m3_value(static_cast<int>(i * 37 % 127))) << k << " " << i;
      }
    }
  }
}

TEST(GgufBlocks, E8m0HalvesTheScale) {
  EXPECT_EQ(e8m0_half(128), 1.0f);
  EXPECT_EQ(e8m0_half(127), 0.5f);
  EXPECT_EQ(e8m0_half(1), 0x1p-127f);
  EXPECT_EQ(e8m0_half(0), 0x1p-128f);
  EXPECT_EQ(e8m0_half(254), 0x1p126f);
}

TEST(GgufBlocks, UnpacksSixBitScales) {
  // Group g has the scale g + 1 + 16 (g >= 4 ? 3 : 0) and the minimum 2 g + 16 (g >= 4 ? 2 : 0): every packed part in
  // use.
  uint8_t packed[12] = {};
  for (int g = 0; g < 8; ++g) {
    const int scale = g + 1 + (g >= 4 ? 48 : 0), min = 2 * g + (g >= 4 ? 32 : 0);
    if (g < 4) {
      packed[g] = static_cast<uint8_t>(packed[g] | scale);
      packed[g + 4] = static_cast<uint8_t>(packed[g + 4] | min);
    } else {
      packed[g + 4] = static_cast<uint8_t>((scale & 15) | ((min & 15) << 4));
      packed[g - 4] = static_cast<uint8_t>(packed[g - 4] | ((scale >> 4) << 6));
      packed[g] = static_cast<uint8_t>(packed[g] | ((min >> 4) << 6));
    }
  }
  for (int g = 0; g < 8; ++g) {
    EXPECT_EQ(q4_k_scale_min(packed, g).scale, g + 1 + (g >= 4 ? 48 : 0));
    EXPECT_EQ(q4_k_scale_min(packed, g).min, 2 * g + (g >= 4 ? 32 : 0));
  }
}

}  // namespace
}  // namespace baize
