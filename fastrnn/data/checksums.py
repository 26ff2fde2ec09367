"""Size in bytes and SHA-256 of the content of each file of the data sets."""

CHECKSUMS = {
    "char_lm/names.txt": (
        228145,
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
    ),
    "char_lm/tinyshakespeare.txt": (
        1115394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "dialogue_qa/babi/qa15_basic-deduction_test.txt": (
        87769,
        "32b77e117fe9acf5f94906684e3b5206de0108e646c76e1da3e022896ec7ee94",
    ),
    "dialogue_qa/babi/qa15_basic-deduction_train.txt": (
        87688,
        "e856ebfdcce4dd7d617c1d10f985e96a0850c0ca18e9a19a017cb710d135ed3d",
    ),
    "dialogue_qa/babi/qa1_single-supporting-fact_test.txt": (
        94477,
        "55acf66cef2f6d798e2aa1d056e1ec8f24e910ea9215b639450574321132959b",
    ),
    "dialogue_qa/babi/qa1_single-supporting-fact_train.txt": (
        94346,
        "c64ba9b1a49bbb111ffc4cd2ae4f129d25c012399dd7ade9679eea464b9afb05",
    ),
    "dialogue_qa/babi/qa20_agents-motivations_test.txt": (
        67963,
        "bd3bde3788ac14ba0ae095078f7b820fbd2bfa6a34dba9d1d46a34afde9c2729",
    ),
    "dialogue_qa/babi/qa20_agents-motivations_train.txt": (
        67892,
        "29580ad55fb7b4b29ba014696056cc68f8f347dac3be88470fd692ad60150398",
    ),
    "dialogue_qa/babi/qa2_two-supporting-facts_test.txt": (
        179835,
        "eff93fb9cd81ba02eb765772cf7cc269769ed44ec71cbbbc19cfb16ee5eba0f6",
    ),
    "dialogue_qa/babi/qa2_two-supporting-facts_train.txt": (
        177412,
        "a4978af5bc0dc30191810e7c9949aaa6eae939ed0f6beb9fcb5f4330c2a27860",
    ),
    "dialogue_qa/babi/qa4_two-arg-relations_test.txt": (
        117394,
        "07f0ca18ddeea9eed4ba6d59e162adcb0ce44815721114b3540d92825509331e",
    ),
    "dialogue_qa/babi/qa4_two-arg-relations_train.txt": (
        117470,
        "c9370502d85fa382f32d1fea2111e817f81ae9e3e79eb2924a1a5392a90417fa",
    ),
    "dialogue_qa/babi/qa6_yes-no-questions_test.txt": (
        100109,
        "b108b16f1eccbd1c24df6dca2649079a7b2f10af7fd12d4c45a3393802de59e3",
    ),
    "dialogue_qa/babi/qa6_yes-no-questions_train.txt": (
        100561,
        "5a133115ee35d475776df703ff605d145b11effbcdbf7e74861f9d5639246a5a",
    ),
    "dialogue_qa/babi/qa9_simple-negation_test.txt": (
        97208,
        "63590aff3f89993db409f0e9a9eb39c2a5b9d5efff99b255d800a891b0044d9f",
    ),
    "dialogue_qa/babi/qa9_simple-negation_train.txt": (
        97310,
        "0c3b89921af0caea1c4059ee3f7b7f2a88869f924195a428da37820446b8c49f",
    ),
    "dialogue_qa/chatterbot_english.tsv": (
        238323,
        "51582f0dfcf0881ad72c9da397914d205efe5f35ca6080684188f7a291b2cdf7",
    ),
    "frame_level/gesture_phase.npz": (
        805361,
        "2873f9e8b00b54ab35f46e12ee5eb1e8a49a9c5fd04c96324e051ef8b991b482",
    ),
    "image_caption/emoji_captions.npz": (
        6597915,
        "fe7982987fbe16ba576fbd773d58ebd723e6575dfb8d9dcea383362df6b109e8",
    ),
    "music/bach_chorale_melodies.json": (
        56465,
        "2ddb50051f47fb25932e590927b34fcc7641e080c3c219caeb77b4df1e5631bc",
    ),
    "name_classification/gender/female.txt": (
        35576,
        "27aba6e427e906725302efc68a72d74d2fa3b9863700ed29664416cbd0ca508e",
    ),
    "name_classification/gender/male.txt": (
        20293,
        "a574c9661396136cebebd64cb514c50b09358c793614a39680ce82962c32519f",
    ),
    "name_classification/names/Arabic.txt": (
        13190,
        "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
    ),
    "name_classification/names/Chinese.txt": (
        1246,
        "09ba8f1f7e38dbc99372d461b26ad4433b811fc6bfa6a3ecca6fe11a9a777465",
    ),
    "name_classification/names/Czech.txt": (
        3916,
        "e17ab0ec47616a72c39cb85c783f70c3663ab64488721e5d8378f146d2226be7",
    ),
    "name_classification/names/Dutch.txt": (
        2351,
        "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
    ),
    "name_classification/names/English.txt": (
        27125,
        "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
    ),
    "name_classification/names/French.txt": (
        2178,
        "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
    ),
    "name_classification/names/German.txt": (
        5610,
        "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
    ),
    "name_classification/names/Greek.txt": (
        1981,
        "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
    ),
    "name_classification/names/Irish.txt": (
        1858,
        "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
    ),
    "name_classification/names/Italian.txt": (
        5657,
        "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
    ),
    "name_classification/names/Japanese.txt": (
        7622,
        "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
    ),
    "name_classification/names/Korean.txt": (
        423,
        "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
    ),
    "name_classification/names/Polish.txt": (
        1165,
        "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
    ),
    "name_classification/names/Portuguese.txt": (
        554,
        "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
    ),
    "name_classification/names/Russian.txt": (
        85168,
        "0cfe53ac18041e8f63666aa77313e0a3ff378facb132abee052d8ebdc8c3d62c",
    ),
    "name_classification/names/Scottish.txt": (
        752,
        "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
    ),
    "name_classification/names/Spanish.txt": (
        2284,
        "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
    ),
    "name_classification/names/Vietnamese.txt": (
        339,
        "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
    ),
    "sentiment/amazon_cells_labelled.txt": (
        58226,
        "47003fc0a0d4840b00e96e715b6189bad09e7443a3da41c4cbe12ffc79f86ae3",
    ),
    "sentiment/imdb_labelled.txt": (
        85285,
        "aef2e49e3da25714d61175e3a6e68eeef74a20a2f914318dc3be9947ea86512d",
    ),
    "sentiment/rt-polarity.neg.txt.gz": (
        612441,
        "614274f81185a850e5a88d533d4679f916d6f62e9af6f0b4ec71fb94bf466ea5",
    ),
    "sentiment/rt-polarity.pos.txt.gz": (
        626334,
        "c2dc6b2f55bcf725725372916287cc3f8f9b19402edaa9167de5287cb3ade421",
    ),
    "sentiment/yelp_labelled.txt": (
        61320,
        "c76468b7b5c6e56a0804d728345c5f84aa2142ddb214420f61cc9cfd4c00d2ea",
    ),
    "sequence_classification/finger_tracks.npz": (
        344896,
        "925bab9e0dcd18970124a23f7e8ffe8e890afd84e23c243f344efb91b3ad7eb4",
    ),
    "sequence_classification/japanese_vowels.npz": (
        482260,
        "ce7729800b151b6f0ce5e242ab02a90f6fe440b99423b43af6f3cea5766f75f8",
    ),
    "speech/fsdd_logmel20.npz": (
        2619644,
        "73e9f33d0fa4dd2fc6eea0b9db1020999b4b793998c2cbfd68f0c335ea56c474",
    ),
    "time_series/airline.csv": (
        1744,
        "28af0eb869db6d9fbd31d5af03993a0cbf36c0857c3eb046a068c094b60da851",
    ),
    "time_series/co2.csv": (
        33974,
        "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f",
    ),
    "time_series/elnino.csv": (
        5508,
        "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad",
    ),
    "time_series/lynx.csv": (
        1073,
        "aa531751f1570541924e78c53fa9ef56422c9593a89faeb01513bba7b2015c77",
    ),
    "time_series/nile.csv": (
        942,
        "88e97bea7249e5832a85e41aec6ce4b8f7b1b14aae930c8363da7f193286b598",
    ),
    "time_series/solar.csv": (
        9392,
        "205b61343a9233f6f532e918154a19b177557086f77801ec26277a1868af7e7e",
    ),
    "time_series/sunspots.csv": (
        2944,
        "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b",
    ),
    "translation/cmudict_every4th.tsv.gz": (
        679436,
        "be72fd57cd7aa89978f58c98c566ef2e51f96c17c158067198577c721f521260",
    ),
    "translation/eng-fra-5000.tsv": (
        562864,
        "d952b56a181da5270b7bb4ded3f3bbe61e67a9b1de0e0fbc1d46438c71fb55a7",
    ),
    "word_lm/wikitext2.test.txt.gz": (
        1256449,
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    ),
    "word_lm/wikitext2.valid.txt.gz": (
        1121681,
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    ),
}
