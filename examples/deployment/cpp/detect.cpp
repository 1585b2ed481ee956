// Answer a live stream by an exported ONNX file, with ONNX Runtime's C++ interface.
//
//   detect model.onnx frames.npy        frames (T, D) in float32, as numpy saves them
//   detect model.onnx < frames.f32      D little-endian float32 values a frame, as they come
//   detect model.onnx --times ...       each line begins with the milliseconds that its step took
//
// Each frame is answered by a line of C scores. For little-endian machines, as the file's own numbers are.

#include <onnxruntime_cxx_api.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Json = nlohmann::json;

std::vector<unsigned char> from_base64(const std::string& text) {
    static const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<unsigned char> bytes;
    unsigned bits = 0;
    int held = 0;
    for (char letter : text) {
        if (letter == '=') break;
        const auto value = letters.find(letter);
        if (value == std::string::npos) throw std::runtime_error("the state's values are damaged");
        bits = bits << 6 | static_cast<unsigned>(value);
        if ((held += 6) >= 8) bytes.push_back(static_cast<unsigned char>(bits >> (held -= 8)));
    }
    return bytes;
}

// One array of what a stream remembers before its first frame: one number everywhere, or packed values.
template <typename T>
Ort::Value fresh_array(const Json& leaf, Ort::AllocatorWithDefaultOptions& allocator) {
    std::vector<std::int64_t> shape = leaf.at("shape");
    shape.insert(shape.begin(), 1);  // one stream
    auto array = Ort::Value::CreateTensor<T>(allocator, shape.data(), shape.size());
    T* values = array.template GetTensorMutableData<T>();
    const auto count = array.GetTensorTypeAndShapeInfo().GetElementCount();
    if (leaf.contains("fill")) {
        std::fill_n(values, count, leaf.at("fill").get<T>());
        return array;
    }
    const auto packed = from_base64(leaf.at("values"));
    uLongf size = static_cast<uLongf>(count * sizeof(T));
    const auto result = uncompress(reinterpret_cast<Bytef*>(values), &size, packed.data(), packed.size());
    if (result != Z_OK || size != count * sizeof(T)) throw std::runtime_error("the state's values are damaged");
    return array;
}

Ort::Value fresh(const Json& leaf, Ort::AllocatorWithDefaultOptions& allocator) {
    const std::string dtype = leaf.at("dtype");
    if (dtype == "float32") return fresh_array<float>(leaf, allocator);
    if (dtype == "int64") return fresh_array<std::int64_t>(leaf, allocator);
    throw std::runtime_error("the state holds " + dtype + ", which this program does not know");
}

class Detector {
public:
    explicit Detector(const std::string& path) : environment_(ORT_LOGGING_LEVEL_ERROR, "coadtr"), session_(nullptr) {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);  // a small step is done before a second thread has begun
        session_ = Ort::Session(environment_, std::filesystem::path(path).c_str(), options);
        const auto text = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("coadtr", allocator_);
        if (!text) throw std::runtime_error(path + " says nothing of itself; give a file that `coadtr export` wrote");
        told_ = Json::parse(text.get());
        for (const Json& part : told_.at("spec").at("streams")) channels_ += part.at("channels").get<std::size_t>();
        inputs_ = {"frame"};
        outputs_ = {"logits"};
        for (const Json& leaf : told_.at("state")) {
            inputs_.push_back("state." + leaf.at("name").get<std::string>());
            outputs_.push_back("next." + leaf.at("name").get<std::string>());
        }
        reset();
    }

    std::size_t channels() const { return channels_; }

    // The next frame is the first of a new stream.
    void reset() {
        state_.clear();
        state_.emplace_back(nullptr);  // the place of the frame
        for (const Json& leaf : told_.at("state")) state_.push_back(fresh(leaf, allocator_));
    }

    // Take the stream's next frame, D values, and return C scores.
    std::vector<double> push(std::vector<float>& frame) {
        const std::int64_t shape[] = {1, static_cast<std::int64_t>(channels_)};
        if (frame.size() != channels_) throw std::runtime_error("a frame has " + std::to_string(channels_) + " values");
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        state_[0] = Ort::Value::CreateTensor<float>(memory, frame.data(), frame.size(), shape, 2);
        auto after = session_.Run(Ort::RunOptions{nullptr}, names(inputs_).data(), state_.data(), state_.size(),
                                  names(outputs_).data(), outputs_.size());
        const float* logits = after[0].GetTensorData<float>();
        const auto count = after[0].GetTensorTypeAndShapeInfo().GetElementCount();
        if (!std::all_of(logits, logits + count, [](float logit) { return std::isfinite(logit); }))
            throw std::runtime_error("the answer is not finite: this frame is not taken");
        auto answer = scores(logits, count);
        state_ = std::move(after);  // what comes out goes in with the next frame
        return answer;
    }

private:
    static std::vector<const char*> names(const std::vector<std::string>& texts) {
        std::vector<const char*> pointers;
        for (const auto& text : texts) pointers.push_back(text.c_str());
        return pointers;
    }

    // From 0 to 1, in double precision; the ignored class scores 0.
    std::vector<double> scores(const float* logits, std::size_t count) const {
        const Json& spec = told_.at("spec");
        std::vector<double> values(logits, logits + count);
        if (!spec.at("ignored").is_null())
            values.at(spec.at("ignored").get<std::size_t>()) = -std::numeric_limits<double>::infinity();
        if (spec.at("head") == "sigmoid") {
            for (double& value : values) value = 1 / (1 + std::exp(-value));
            return values;
        }
        const double largest = *std::max_element(values.begin(), values.end());
        for (double& value : values) value = std::exp(value - largest);
        const double sum = std::accumulate(values.begin(), values.end(), 0.0);
        for (double& value : values) value /= sum;
        return values;
    }

    Ort::Env environment_;
    Ort::Session session_;
    Ort::AllocatorWithDefaultOptions allocator_;
    Json told_;
    std::size_t channels_ = 0;
    std::vector<std::string> inputs_, outputs_;
    std::vector<Ort::Value> state_;
};

// Skip the header of an .npy file, and refuse what is not (T, D) in float32 and C order.
void skip_header(std::istream& file, std::size_t channels) {
    unsigned char lead[12] = {};
    file.read(reinterpret_cast<char*>(lead), 8);
    const int width = lead[6] == 1 ? 2 : 4;
    file.read(reinterpret_cast<char*>(lead) + 8, width);
    std::size_t length = 0;
    for (int byte = width; byte-- > 0;) length = length << 8 | lead[8 + byte];
    if (std::string(lead, lead + 6) != "\x93NUMPY" || length > 1 << 16) throw std::runtime_error("this is no .npy file");
    std::string header(length, ' ');
    file.read(header.data(), static_cast<std::streamsize>(length));
    for (const std::string& wanted :
         {std::string("'<f4'"), std::string("'fortran_order': False"), ", " + std::to_string(channels) + ")"})
        if (header.find(wanted) == std::string::npos)
            throw std::runtime_error("frames must be (T, " + std::to_string(channels) + ") in float32, got " +
                                     header.substr(0, header.find('}') + 1));
}

void answer(Detector& detector, std::istream& frames, bool timed) {
    std::vector<float> frame(detector.channels());
    const auto bytes = static_cast<std::streamsize>(frame.size() * sizeof(float));
    while (frames.read(reinterpret_cast<char*>(frame.data()), bytes)) {
        const auto start = std::chrono::steady_clock::now();
        const auto scores = detector.push(frame);
        const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
        const char* between = "";
        if (timed) between = (std::printf("%.6f", spent.count()), " ");
        for (double score : scores) std::printf("%s%.9g", std::exchange(between, " "), score);
        std::printf("\n");
        std::fflush(stdout);
    }
}

}  // namespace

int main(int count, char** words) try {
    std::vector<std::string> given(words + 1, words + count);
    const auto flag = std::find(given.begin(), given.end(), "--times");
    const bool timed = flag != given.end();
    if (timed) given.erase(flag);
    if (given.empty() || given.size() > 2) {
        std::cerr << "usage: detect model.onnx [--times] [frames.npy]; without it frames come on standard input\n";
        return 2;
    }
    Detector detector(given[0]);
    if (given.size() == 1) {
        answer(detector, std::cin, timed);
        return 0;
    }
    std::ifstream file(given[1], std::ios::binary);
    if (!file) throw std::runtime_error(given[1] + " cannot be opened");
    skip_header(file, detector.channels());
    answer(detector, file, timed);
    return 0;
} catch (const std::exception& error) {
    std::cerr << "detect: " << error.what() << "\n";
    return 1;
}
