"""Tables of kinds: lists of which each member makes another question.

Members are apart by a space, ways to say one of them by "/", words of a phrase by "_"; "#" is any
number. A word that also means something else does no harm where another member of its kind would
have to be said in its place.
"""

from __future__ import annotations

# A country and its people or language are one word here: "population of france", "french people".
_PLACES = {
    "place": "england/english scotland/scottish ireland/irish northern_ireland wales/welsh"
    " france/french germany/german austria/austrian italy/italian spain/spanish"
    " portugal/portuguese netherlands/dutch belgium/belgian switzerland/swiss sweden/swedish"
    " norway/norwegian denmark/danish finland/finnish iceland/icelandic poland/polish"
    " czechia/czech hungary/hungarian romania/romanian bulgaria/bulgarian greece/greek"
    " turkey/turkish russia/russian ukraine/ukrainian estonia/estonian latvia/latvian"
    " lithuania/lithuanian slovakia/slovak slovenia/slovenian croatia/croatian serbia/serbian"
    " bosnia/bosnian albania/albanian moldova belarus luxembourg malta cyprus monaco montenegro"
    " kosovo china/chinese japan/japanese north_korea south_korea korea/korean taiwan mongolia"
    " india/indian pakistan/pakistani bangladesh nepal bhutan sri_lanka myanmar/burma laos"
    " cambodia vietnam/vietnamese thailand/thai indonesia/indonesian malaysia/malaysian"
    " philippines/filipino australia/australian new_zealand papua_new fiji samoa tonga"
    " canada/canadian mexico/mexican mexico_city guatemala honduras nicaragua costa_rica panama"
    " el_salvador belize cuba/cuban jamaica haiti dominica dominican_republic barbados"
    " brazil/brazilian argentina/argentinian chile/chilean peru/peruvian colombia/colombian"
    " venezuela bolivia ecuador uruguay paraguay guyana suriname egypt/egyptian morocco/moroccan"
    " algeria tunisia libya sudan south_sudan niger nigeria/nigerian ghana mali malawi mauritius"
    " mauritania senegal gambia guinea guinea_bissau equatorial_guinea liberia togo benin"
    " cameroon gabon congo democratic_republic/dr_congo/drc rwanda burundi uganda kenya/kenyan"
    " tanzania ethiopia/ethiopian eritrea djibouti somalia zambia zimbabwe angola namibia"
    " botswana lesotho eswatini mozambique madagascar south_africa israel/israeli iran/iranian"
    " iraq/iraqi syria lebanon kuwait qatar bahrain oman yemen saudi_arabia afghanistan"
    " kazakhstan uzbekistan turkmenistan tajikistan kyrgyzstan armenia/armenian azerbaijan"
    " georgia hindi arabic hebrew latin africa/african asia/asian europe/european"
    " america/american/usa/united_states south_america north_america",
    "state": "alabama alaska arizona arkansas california colorado connecticut delaware florida"
    " hawaii idaho illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts"
    " michigan minnesota mississippi missouri montana nebraska nevada new_hampshire new_jersey"
    " new_mexico north_carolina south_carolina north_dakota south_dakota ohio oklahoma oregon"
    " pennsylvania rhode_island tennessee texas utah vermont virginia west_virginia wisconsin"
    " wyoming washington_state washington_dc york_state york_city/nyc",
    "city": "london paris berlin rome milan madrid barcelona lisbon vienna munich hamburg amsterdam"
    " brussels zurich geneva stockholm oslo copenhagen helsinki dublin warsaw prague budapest"
    " athens istanbul moscow kyiv tokyo osaka kyoto beijing shanghai seoul delhi mumbai bangkok"
    " singapore jakarta sydney melbourne toronto vancouver montreal chicago boston seattle miami"
    " houston dallas denver cairo nairobi lagos lyon marseille venice florence naples turin"
    " seville valencia porto frankfurt cologne edinburgh manchester liverpool glasgow detroit"
    " phoenix philadelphia atlanta dubai manila hanoi lima bogota santiago",
    "planet": "mercury venus earth/world mars jupiter saturn uranus neptune pluto moon sun",
    "ocean": "pacific atlantic arctic",
}  # fmt: skip
_MACHINES = {
    "program": "python java javascript/js typescript/ts rust golang/in_go ruby perl php kotlin"
    " scala haskell erlang elixir clojure fortran cobol csharp cplusplus in_c in_r in_swift/swiftui"
    " in_dart in_lua in_julia matlab bash powershell sql",
    "format": "json xml yaml csv html css markdown latex pdf docx xlsx png jpeg/jpg gif"
    " svg mp3 mp4",
    "system": "windows linux/unix macos/mac android ios ubuntu debian fedora",
    "product": "mysql postgresql/postgres mongodb redis sqlite oracle django flask react angular"
    " vue kubernetes docker aws azure gcp excel outlook gmail instagram twitter facebook tiktok"
    " youtube netflix spotify whatsapp telegram iphone",
    "library": "numpy pandas polars scipy matplotlib tensorflow pytorch keras",
    "webserver": "nginx apache caddy", "packages": "npm yarn pip conda cargo maven gradle",
    "editor": "vim emacs nano vscode", "browser": "chrome firefox safari",
    "meeting": "zoom slack skype webex", "payment": "paypal venmo stripe",
    "protocol": "http https ftp sftp ssh telnet tcp udp ip smtp imap pop3 dns dhcp",
    "method": "get_request/http_get post_request/http_post put_request/http_put"
    " delete_request/http_delete patch_request/http_patch",
    "git": "git_pull git_push git_fetch git_merge git_rebase git_clone git_commit git_reset"
    " git_revert git_checkout git_stash git_add git_diff git_log git_status git_blame",
    "git_thing": "branch/branches tag commit/commits remote stash submodule",
    "join": "inner_join outer_join/full_join left_join right_join cross_join self_join",
    "order": "pre_order/preorder post_order/postorder inorder level_order",
    "search": "breadth_first/bfs depth_first/dfs binary_search linear_search",
    "sort": "merge_sort/mergesort quick_sort/quicksort heap_sort/heapsort bubble_sort"
    " insertion_sort selection_sort radix_sort",
    "complexity": "time_complexity space_complexity",
    "case": "best_case worst_case average_case",
    "loop": "while_loop for_loop do_while", "leap": "break_statement continue_statement",
    "structure": "stack queue heap tree graph hashmap/hashtable",
    "type": "int/integer float string/str boolean/bool list/array tuple dictionary/dict",
    "blank": "tab space/spaces newline comma semicolon",
    "box": "margin padding border", "face": "bold italic underline strikethrough",
    "size": "width height depth weight/weigh thickness", "aim": "static final abstract",
    "number_base": "hex/hexadecimal decimal binary octal",
    "zone": "utc local_time", "stored": "file/files folder/folders/directory/directories",
    "passed": "by_value by_reference", "mask": "letters digits", "written": "line word",
    "text_place": "starts_with/start_with contains/contain ends_with/end_with",
    "hardware": "ram cpu gpu",
    "account": "username password", "office": "excel word powerpoint",
    "tunnel": "vpn proxy firewall", "user_right": "readable writable executable read_only",
    "mode": "text_mode binary_mode", "each": "map filter reduce", "undoing": "revert reset",
    "company": "nvidia intel amd apple microsoft google amazon tesla ibm samsung sony toyota ford"
    " bmw honda volkswagen nike adidas ebay netflix uber boeing airbus",
    "password_of": "email_password bank_password wifi_password gmail_password",
}  # fmt: skip
_SUMS = {
    "operation": "plus/sum_of/add_#/#_added minus/subtract/difference_of/difference_between"
    " #_times/multiply/multiplied/product_of divided/divide/quotient_of",
    "discount": "percent_off/#_off percent_of/#_of",
    "measure": "area/areas perimeter/circumference volume surface_area/surface hypotenuse",
    "circle": "radius/radii diameter/diameters circumference",
    "statistic": "mean_of/the_mean/mean_value/average/averages median mode_of/the_mode"
    " range_of/the_range variance standard_deviation",
    "trig": "sine/sin/sine_of/sin_of cosine/cos tangent/tan secant cosecant cotangent arcsin arccos"
    " arctan",
    "arrangement": "permutation/permutations combination/combinations",
    "angle": "degree/degrees radian/radians",
    "motion": "speed/velocity acceleration/accelerate distance",
    "power": "square_root/square_roots/sqrt cube_root/cube_roots square/squared cube/cubed",
    "log": "natural_log/natural_logarithm/ln log_of/logarithm_of/log_base/common_log",
    "interest": "simple_interest compound_interest",
    "counted_of": "many_sides/many_edges many_diagonals many_vertices/many_corners many_faces",
    "polygon": "triangle quadrilateral pentagon hexagon heptagon octagon nonagon decagon",
    "flat": "triangle/triangular rectangle/rectangular circle/circular trapezoid/trapezium rhombus"
    " ellipse parallelogram",
    "solid": "sphere hemisphere cone cylinder pyramid prism",
    "common": "greatest_common/highest_common/gcd/gcf/hcf least_common/lowest_common/lcm",
    "parity": "even odd prime composite", "intercept": "x_intercept y_intercept",
    "of_a_function": "derivative inverse integral", "card": "ace jack queen spade",
    "degree": "celsius fahrenheit kelvin",
    "length": "meter/metre kilometer/kilometre/km centimeter/centimetre/cm millimeter/millimetre/mm"
    " inch/inches foot/feet yard mile",
    "mass": "gram kilogram/kilo/kg ounce pound", "spoon": "teaspoon/tsp tablespoon/tbsp cup",
    "money": "dollar/usd euro/eur yen rupee franc pound/gbp",
    "span": "second minute hour/hourly day/daily week/weekly month/monthly year/yearly/annual"
    "/annually decade century",
    "aggregate": "sum/sum_of/total average count",
    "level": "minimum/min/lowest resting average/typical maximum/max/highest/top/peak",
    "nutrient": "calorie/calories carb/carbs/carbohydrates protein/proteins fat/fats sugar/sugars"
    " fiber/fibre sodium",
}  # fmt: skip
_LIFE = {
    "colour": "red blue green yellow orange purple black white grey/gray pink brown",
    "currency": "bitcoin ethereum dogecoin solana litecoin",
    "metal": "gold silver copper iron/steel zinc nickel platinum aluminum/aluminium tin"
    " titanium uranium lithium sodium potassium calcium magnesium",
    "element": "hydrogen helium carbon nitrogen oxygen fluorine neon phosphorus sulfur/sulphur"
    " chlorine argon iodine",
    "alcohol": "ethanol methanol propanol butanol",
    "particle": "proton/protons neutron/neutrons electron/electrons",
    "atomic": "atomic_number atomic_mass/atomic_weight",
    "point": "melting_point boiling_point freezing_point",
    "rock": "igneous sedimentary metamorphic", "matter": "solid/solids liquid/liquids gas/gases",
    "class": "mammal/mammals bird/birds reptile/reptiles fish insect/insects amphibian/amphibians",
    "making": "photosynthesis chemosynthesis respiration", "above": "sky sea/ocean",
    "soluble": "water_soluble fat_soluble", "food": "fruit vegetable grain",
    "laundry": "white/whites dark/darks", "of_age": "drive vote drink marry",
    "holiday": "christmas easter thanksgiving halloween new_year hanukkah ramadan diwali",
    "war": "vietnam_war gulf_war korean_war civil_war cold_war iraq_war",
    "work": "hamlet macbeth othello iliad odyssey aeneid",
    "diet": "herbivore carnivore omnivore", "eclipse": "solar_eclipse lunar_eclipse",
    "pet": "dog/puppy cat/kitten horse rabbit hamster parrot",
    "animal": "lion wolf/wolves tiger bear goat sheep cow pig elephant giraffe spider ant bee wasp"
    " shark whale dolphin eagle owl snake lizard frog",
    "sound": "purr hiss meow bark growl",
    "meat": "chicken beef pork lamb salmon tuna shrimp bacon",
    "cut": "breast/breasts thigh/thighs drumstick",
    "eats": "vegetarian/vegetarians vegan/vegans keto/ketogenic paleo pescatarian",
    "plant": "potato/potatoes tomato/tomatoes onion carrot rice pasta bean lentil broccoli",
    "cloth": "wool cotton silk linen polyester leather", "stain": "wine_stain blood_stain"
    " coffee_stain grass_stain ink_stain",
    "cooking": "boil/boiled bake/baked/roast/roasted fry/fried grill/grilled steam/steamed poach"
    " microwave",
    "cooker": "rice_cooker pressure_cooker slow_cooker air_fryer",
    "stuff": "bleach vinegar ammonia water", "doneness": "medium rare well_done",
    "taken": "alcohol caffeine/coffee antidepressants antibiotics",
    "when_taken": "with_food empty_stomach",
    "vitamin": "vitamin_a vitamin_b vitamin_c vitamin_d vitamin_e vitamin_k",
    "hepatitis": "hepatitis_a hepatitis_b hepatitis_c hepatitis_d hepatitis_e",
    "drug": "ibuprofen/advil paracetamol/acetaminophen/tylenol aspirin naproxen amoxicillin"
    " penicillin metformin insulin prednisone melatonin",
    "illness": "flu/influenza cold_sore covid measles mumps malaria cholera asthma diabetes cancer",
    "aspect": "symptom/symptoms/signs_of cause/causes/caused treatment/treatments/treat/cure"
    " prevention/prevent diagnosis/diagnose dosage/dose side_effect/side_effects",
    "infection": "ear_infection sinus_infection bladder_infection skin_infection throat_infection",
    "organ": "heart lung/lungs liver kidney/kidneys stomach brain pancreas",
    "limb": "arm leg knee ankle elbow wrist shoulder hip",
    "agent": "viral/virus/viruses bacterial/bacteria fungal/fungus",
    "age": "adult/adults child/children/kid/kids/baby/babies/infant/infants/toddler/toddlers"
    "/newborn/newborns teenager/teenagers/teen/teens elderly/seniors",
    "kin": "father/dad mother/mom/mum son daughter brother sister husband wife uncle aunt nephew"
    " niece cousin grandfather/grandpa grandmother/grandma",
    "ruler": "king queen prince princess emperor pope",
    "meal": "breakfast lunch dinner", "greeting": "say_hello say_goodbye say_thanks say_sorry",
    "sport": "football soccer baseball basketball hockey tennis golf cricket rugby volleyball polo",
}  # fmt: skip
_SCHOOL = {
    "part": "noun verb adjective adverb pronoun preposition",
    "tense": "past_tense/past_simple present_tense/present_simple future_tense past_participle"
    " present_participle",
    "about_word": "opposite/antonym synonym plural meaning/meaning_of/the_meaning/definition"
    " rhyme spelling",
    "step": "undergraduate graduate doctoral",
    "english": "british_english american_english",
    "work_by": "directed/director wrote/written/write/writer/author/composed/compose/composer"
    " produced/producer sang/sung/sing/singer/performed starred/stars/star/played/plays/actor"
    " painted/painter",
    "role_in": "joker batman superman villain hero",
    "attribute": "capital/capitals currency population language/languages flag anthem religion gdp"
    " area",
    "emblem": "state_bird/national_bird state_flower/national_flower state_tree/national_tree"
    " state_animal/national_animal state_motto/national_motto",
    "superlative": "tallest oldest largest/biggest busiest heaviest richest/wealthiest fastest"
    " strongest deepest hottest coldest driest wettest cheapest nearest/closest longest youngest"
    " newest rarest smallest shortest",
    "tenure": "rent/lease own",
    "market": "bull_market bear_market", "card_kind": "debit_card credit_card gift_card",
    "ira": "traditional_ira roth_ira", "bank": "checking_account savings_account",
    "security": "stock/stocks/share_price bond/bonds etf",
    "science": "biologist geologist psychologist sociologist astronomer/astronomers"
    " astrologer/astrologers chemist physicist",
    "device": "telephone/phone television/tv telescope microscope radio"
    " laptop/computer/pc tablet printer",
    "mail": "work_email private_email personal_email", "offence": "burglary robbery theft fraud"
    " murder manslaughter assault arson",
    "order_act": "cancel change track exchange renew", "seat": "economy business_class"
    " first_class", "transit": "bus train plane/flight ferry taxi tram subway/metro",
    "text_kind": "poem essay story letter email speech song joke haiku resume/cv",
    "feast": "wedding funeral", "job": "nurse teacher lawyer doctor"
    " engineer plumber",
    "exercise": "push_up/pushups sit_up/situps squat/squats plank pull_up/pullups",
}  # fmt: skip
# What is asked for right behind "what" or "which".
_ASKED_FOR = (
    "year/date/day/month century/decade city/town/place/village country/nation state continent"
    " hemisphere county language currency religion book/novel film/movie song/track album poem play"
    " team/club player actor/actress award/prize colour/color age sport instrument animal time"
    " school/college/university company/firm planet president king party war battle river ocean/sea"
    " channel/network job/occupation/profession episode season chapter food vitamin medicine"
    " temperature size gender element metal airline airport station hospital law crime disease"
)
_SAID_BEHIND = ("what", "which")
_ASKED = {
    "asked": " ".join(
        "/".join(f"{asked}_{word}" for word in member.split("/") for asked in _SAID_BEHIND)
        for member in _ASKED_FOR.split()
    )
}
KINDS: dict[str, str] = _PLACES | _MACHINES | _SUMS | _LIFE | _SCHOOL | _ASKED
